"""The zygote's program: it has loaded what every actor needs, and forks at the orders of the actors of its tree.

Theory of operation.  It has one thread, no loop but its own, and nothing of the user's, so a fork of it is as sound as
a fresh interpreter.  An order is one message on the socket that all actors share, with the socket for its answers, a
file that describes the process (:class:`~tractor.spawn.zygote._order.Order`) and its descriptors.  Answers: the pid,
with a pidfd; later the exit status.  Who hangs up before the pid could be told gets no process, or has it killed: so
there is none that nobody knows of.

It ends with the actor that has started it: by its lifeline, at once.  The processes that it has forked have lifelines
and sentinels of their own parents, and end by these.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from tractor.process._stat import process_start_time
from tractor.process._title import set_short_name, set_title
from tractor.spawn._boot import read_boot_record
from tractor.spawn._contract import CHILD_MODULE
from tractor.spawn._signal_help import ENDING
from tractor.spawn.fork._reset import forget_program, reset_process
from tractor.spawn.zygote._order import Order, Place, out_of_reach, take_over
from tractor.spawn.zygote._preload import preload
from tractor.spawn.zygote._tie import SLOT
from tractor.spawn.zygote._words import MAX_FDS, Answer, encode_answer, read_file

if sys.platform != "linux":
    raise ImportError("there is a zygote on Linux only")

CREDENTIALS = struct.Struct("iII")
"""Pid, user and group of who sent a message, by the kernel's word."""


def main(argv: list[str]) -> NoReturn:
    """Serve until the actor that has started this process is gone; never returns."""
    orders, table, lifeline = map(int, argv)
    try:
        record = read_boot_record(lifeline)
        os.set_inheritable(orders, False)
        os.set_inheritable(table, False)
        title = f"zygote of {record.parent_pid}"
        if not set_title(title):
            set_short_name(title)
        unfit = preload(record.preload)
        _Zygote(socket.socket(fileno=orders), table, lifeline, unfit).run()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


class _Zygote:
    def __init__(self, orders: socket.socket, table: int, lifeline: int, unfit: str | None) -> None:
        # Why it must not fork.
        self._unfit = unfit
        self._orders = orders
        self._table = table
        self._lifeline = lifeline
        self._place = Place.here()
        # By pid: where its end is told, and its slot in the table.
        self._running: dict[int, tuple[socket.socket, int]] = {}
        self._free: list[int] = []
        self._slots = 0
        orders.setblocking(False)
        self._woken, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # It has a socket for each process of the tree.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def run(self) -> NoReturn:
        poll = select.poll()
        for fd in (self._orders.fileno(), self._lifeline, self._woken):
            poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._lifeline in ready:
                os._exit(0)
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._reap()
            if self._orders.fileno() in ready:
                self._take_order()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            known = self._running.pop(pid, None)
            if known is not None:
                answers, slot = known
                self._note(slot, 0, 0.0, 0, 0.0)
                self._free.append(slot)
                _tell(answers, Answer(status=os.waitstatus_to_exitcode(status)))
                answers.close()

    def _take_order(self) -> None:
        space = socket.CMSG_SPACE(MAX_FDS * 4) + socket.CMSG_SPACE(CREDENTIALS.size)
        try:
            data, ancillary, _, _ = self._orders.recvmsg(64, space, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                return
            raise
        if not data:
            # Nobody can order any more.
            os._exit(0)
        fds, by = _fds_and_pid(ancillary)
        if len(fds) < 2:
            for fd in fds:
                os.close(fd)
            return
        with socket.socket(fileno=fds[0]) as answers:
            try:
                order = msgspec.msgpack.decode(read_file(fds[1]), type=Order)
                self._carry_out(order, fds[2:], answers, by)
            except OSError as exc:
                _tell(answers, Answer(errno=exc.errno or errno.EAGAIN))
            except Exception as exc:
                # Whatever is wrong with one order is no reason to forsake the others.
                _tell(answers, Answer(refused=f"{type(exc).__name__}: {exc}"))
            finally:
                for fd in fds[1:]:
                    os.close(fd)

    def _carry_out(self, order: Order, fds: list[int], answers: socket.socket, by: int) -> None:
        if self._unfit is not None:
            _tell(answers, Answer(refused=self._unfit))
            return
        other = self._place.difference(order.place) or out_of_reach(order)
        if other is not None or len(fds) != len(order.numbers) + 1:
            _tell(answers, Answer(refused=f"the subactor is to have another {other}"))
            return
        if _hung_up(answers):
            return
        kept = answers.dup()
        slot = self._free.pop() if self._free else self._slots
        # No handler of this process's may run in the other one.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._become(order, fds)
        except BaseException:
            kept.close()
            self._free.append(slot)
            self._slots = max(self._slots, slot + 1)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._slots = max(self._slots, slot + 1)
        self._running[pid] = kept, slot
        began = process_start_time(pid) or 0.0
        self._note(slot, pid, began, by, process_start_time(by) or 0.0)
        pidfd = os.pidfd_open(pid)
        try:
            if not _tell(answers, Answer(pid=pid, start_time=began), [pidfd]):
                os.kill(pid, signal.SIGKILL)
        finally:
            os.close(pidfd)

    def _note(self, slot: int, pid: int, began: float, by: int, by_began: float) -> None:
        os.pwrite(self._table, SLOT.pack(pid, began, by, by_began), slot * SLOT.size)

    def _become(self, order: Order, fds: list[int]) -> NoReturn:
        """In the forked process: the subactor."""
        try:
            # Their objects must not close numbers that mean something else from now on.
            for sock in (self._orders, *(answers for answers, _ in self._running.values())):
                sock.detach()
            os.fchdir(fds[0])
            _give_numbers(fds[1:], order.numbers)
            _close_all_but(order.numbers)
            reset_process({*order.blocked, *ENDING})
            take_over(order)
            child: Any = sys.modules[CHILD_MODULE]
            forget_program(child.__spec__)
            args = child.ChildArgs(
                order.name,
                order.uuid,
                order.parent_addr,
                order.boot_fd,
                order.loglevel,
                order.infect_asyncio,
            )
        except BaseException:
            with contextlib.suppress(BaseException):
                os.write(2, traceback.format_exc().encode(errors="replace"))
            os._exit(1)
        run: Callable[[Any], NoReturn] = child.run_and_leave
        run(args)


def _give_numbers(fds: list[int], numbers: list[int]) -> None:
    """Have descriptors under these numbers, 0 to 2 inheritable ones."""
    above = max([*fds, *numbers]) + 1
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
    for fd, number in zip(moved, numbers, strict=True):
        os.dup2(fd, number, inheritable=number <= 2)
        os.close(fd)


def _close_all_but(numbers: list[int]) -> None:
    """Close every other descriptor; no object of this program's owns one."""
    for fd in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, *numbers}:
        # Among them that of the list itself, which is closed by now.
        with contextlib.suppress(OSError):
            os.close(fd)


def _hung_up(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


def _tell(sock: socket.socket, answer: Answer, fds: list[int] | None = None) -> bool:
    """Whether somebody is there to hear it."""
    try:
        socket.send_fds(sock, [encode_answer(answer)], fds or [], socket.MSG_DONTWAIT)
    except OSError:
        return False
    return True


def _fds_and_pid(ancillary: list[tuple[int, int, bytes]]) -> tuple[list[int], int]:
    fds: list[int] = []
    pid = 0
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid = CREDENTIALS.unpack(data[: CREDENTIALS.size])[0]
    return fds, pid
