"""The transport 'shm': what is special about it.  That it is a transport is tested in test_transport.py."""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import socket
import sys
from pathlib import Path

import ep_shm
import pytest
import trio
import trio.testing
from ep_run import run

import tractor
from tractor._errors import TransportClosed
from tractor.address._policy import is_local
from tractor.address._types import UDSAddress
from tractor.msg.types import Stop, Yield
from tractor.transport._addresses import parse_maddr, rank_addrs, wrap_address
from tractor.transport._maddr import mk_maddr
from tractor.transport._table import (
    get_address_cls,
    needs_key,
    transport_by_key,
    transport_keys,
    transport_of,
)

if sys.platform != "linux":
    pytest.skip("rings are Linux's", allow_module_level=True)

from tractor.shm.ring._fd_passing import recv_fds, send_fds
from tractor.shm.ring._io import _HELLO, _MAGIC, PendingIO, offer_rings, take_rings
from tractor.shm.ring._memory import HEADER_SIZE, RingMemory
from tractor.shm.ring._transport import (
    SHM,
    MsgpackShmStream,
    ShmAddress,
    shm_from_socket,
)
from tractor.transport._uds import bind_uds

pytestmark = pytest.mark.usefixtures("no_segment_is_left", "forked_actors")


def socket_pair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair(socket.AF_UNIX)
    for sock in pair:
        sock.setblocking(False)
    return pair


# -- addresses --


def test_the_record_is_found_by_its_key_and_its_addresses() -> None:
    assert transport_by_key("shm") is SHM
    assert get_address_cls("shm") is ShmAddress
    assert transport_of(ShmAddress("/d", "f")) is SHM
    assert "shm" in transport_keys()
    assert not needs_key("shm")


def test_an_address_in_each_form_is_the_same() -> None:
    addr = ShmAddress("/run/x", "a.shm@1.sock", 7)
    assert addr.unwrap() == ("shm:///run/x", "a.shm@1.sock")
    assert wrap_address(addr.unwrap()) == wrap_address(list(addr.unwrap())) == addr
    assert type(wrap_address(addr.unwrap())) is ShmAddress
    assert mk_maddr(addr) == "/shm/run/x/a.shm@1.sock"
    assert parse_maddr("/shm/run/x/a.shm@1.sock") == addr
    assert ShmAddress.from_addr("/shm/run/x/a.shm@1.sock") == addr
    assert ShmAddress.from_addr(addr) is addr
    assert hash(ShmAddress("/run/x/", "a.shm@1.sock")) == hash(addr)


def test_it_is_no_address_of_a_unix_socket() -> None:
    shm, uds = ShmAddress("/d", "f"), UDSAddress("/d", "f")
    assert shm != uds
    assert uds != shm
    assert len({shm, uds}) == 2
    for wrong in (uds.unwrap(), ("tcp", 1), 5, "/unix/d/f"):
        with pytest.raises(TypeError, match="unwrapped SHM address"):
            ShmAddress.from_addr(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a plain file name"):
        wrap_address(("shm:///d", "a/b"))


def test_both_transports_of_one_actor_have_files_of_their_own(private_dir: Path) -> None:
    shm = ShmAddress.get_random(private_dir, name="me", pid=5)
    assert shm.filename == "me.shm@5.sock"
    assert type(shm) is ShmAddress
    assert shm.sockpath != UDSAddress.get_random(private_dir, name="me", pid=5).sockpath
    assert ShmAddress.get_root().filename == "registry.shm@1616.sock"
    assert ShmAddress.get_random() != ShmAddress.get_random()


def test_it_ranks_as_what_needs_no_network(private_dir: Path) -> None:
    addr = ShmAddress(str(private_dir), "here.sock")
    addr.sockpath.touch()
    assert is_local(addr)
    assert rank_addrs([addr.unwrap(), ("127.0.0.1", 5)])[0] == addr.unwrap()
    addr.sockpath.unlink()


# -- handing over --


def test_descriptors_are_handed_over_and_not_inherited() -> None:
    async def main() -> None:
        near, far = socket_pair()
        with near, far, open("/dev/null", "rb") as null:
            await send_fds(near, b"hello!", [null.fileno(), null.fileno()])
            data, fds = await recv_fds(far, 5, 2)
            assert data == b"hello"
            assert far.recv(5) == b"!"
            for fd in fds:
                assert os.readlink(f"/proc/self/fd/{fd}") == "/dev/null"
                assert not os.get_inheritable(fd)
                os.close(fd)

    run(main)


@pytest.mark.parametrize(("sent", "wanted"), [(0, 1), (1, 2), (3, 1), (9, 2)])
def test_another_number_of_descriptors_is_refused(sent: int, wanted: int) -> None:
    async def main() -> None:
        near, far = socket_pair()
        with near, far, open("/dev/null", "rb") as null:
            await send_fds(near, b"x", [null.fileno()] * sent)
            with pytest.raises(ConnectionAbortedError, match=f"descriptors, not {wanted}"):
                await recv_fds(far, 1, wanted)

    run(main)


@pytest.mark.parametrize("part", [b"", b"ab"])
def test_a_peer_that_leaves_within_the_message_is_told(part: bytes) -> None:
    async def main() -> None:
        near, far = socket_pair()
        with far, open("/dev/null", "rb") as null:
            with near:
                if part:
                    await send_fds(near, part, [null.fileno()])
            with pytest.raises(ConnectionResetError, match="before it had sent"):
                await recv_fds(far, 5, 1)

    run(main)


def test_a_cancelled_receiver_of_descriptors_keeps_none() -> None:
    async def main() -> None:
        near, far = socket_pair()
        with near, far, open("/dev/null", "rb") as null:
            await send_fds(near, b"ab", [null.fileno()])
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as tn:
                    tn.start_soon(recv_fds, far, 5, 1)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            assert scope.cancelled_caught

    run(main)


def bad_memory(what: str) -> int:
    capacity = 8192
    size = 2 * (HEADER_SIZE + capacity)
    fd = os.memfd_create("bad", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size - 1 if what == "size" else size)
    if what != "no seal":
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("magic", "does not speak of rings"),
        ("capacity", r"rings have \d+ bytes"),
        ("no seal", "could lose their memory"),
        ("size", "could lose their memory"),
        ("no memory", "Invalid argument|Bad file"),
        ("no eventfd", "is not an eventfd"),
        ("no ring", "holds no ring"),
        ("taken", "already, process"),
    ],
)
def test_what_is_no_pair_of_rings_is_refused_and_closed(what: str, text: str) -> None:
    async def main() -> None:
        near, far = socket_pair()
        with near, far:
            memory = os.open("/dev/null", os.O_RDWR) if what == "no memory" else bad_memory(what)
            fds = [memory, *(os.eventfd(0) for _ in range(4))]
            if what == "no eventfd":
                os.close(fds.pop())
                fds.append(os.open("/dev/null", os.O_RDWR))
            if what == "taken":
                _format(memory, 8192)
            hello = _HELLO.pack(
                b"GARBAGE!" if what == "magic" else _MAGIC,
                2**62 if what == "capacity" else 8192,
            )
            await send_fds(near, hello, fds)
            for fd in fds:
                os.close(fd)
            with pytest.raises(OSError, match=text):
                await take_rings(far)

    run(main)


def _format(memory: int, capacity: int) -> None:

    size = HEADER_SIZE + capacity
    with mmap.mmap(memory, 2 * size) as mapped, memoryview(mapped) as whole:
        for start in (0, size):
            with whole[start : start + size] as part:
                RingMemory.format(part, capacity)
                ring = RingMemory(part)
                for side in (16, 32):
                    ring._words[side] = 1
                ring.release()


def test_eventfds_of_a_peer_never_block() -> None:
    async def main() -> None:
        near, far = socket_pair()
        mine = await offer_rings(near, 8192)
        fd = next(f for f in os.listdir("/proc/self/fd") if _is_eventfd(f))
        os.set_blocking(int(fd), True)
        theirs = await take_rings(far)
        assert not os.get_blocking(int(fd))
        assert theirs.recv_nowait(5) is None
        mine.close()
        theirs.close()

    run(main)


def _is_eventfd(name: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventfd]"
    except OSError:
        return False


def test_before_the_rings_have_come_nothing_works() -> None:
    async def main() -> None:
        near, far = socket_pair()
        io = PendingIO(far)
        for use in (lambda: io.recv_nowait(1), lambda: io.send_nowait([b"x"])):
            with pytest.raises(OSError, match="have not come"):
                use()
        for wait in (io.wait_readable, io.wait_writable):
            with pytest.raises(OSError, match="have not come"):
                await wait()
        io.send_eof()
        assert near.recv(1) == b""
        io.close()
        io.close()
        with pytest.raises(trio.ClosedResourceError):
            await io.wait_readable()
        near.close()

    run(main)


@pytest.mark.parametrize("how", ["silent", "garbage", "leaves"])
def test_a_connection_without_rings_costs_only_itself(private_dir: Path, how: str) -> None:
    addr = ShmAddress(str(private_dir), "alone.sock")

    async def main() -> None:
        with bind_uds(addr) as listener, socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(addr.sockpath))
            await trio.lowlevel.wait_readable(listener)
            far = shm_from_socket(listener.accept()[0], addr, max_frame_size=1000)
            if how == "garbage":
                peer.send(bytes(100))
            elif how == "leaves":
                peer.close()
            if how == "silent":
                with trio.move_on_after(0.05) as scope:
                    await far.secure()
                assert scope.cancelled_caught
            else:
                with pytest.raises(TransportClosed, match="no rings came"):
                    await far.secure()
                assert not far.connected()
            far.abort()

    try:
        run(main)
    finally:
        addr.sockpath.unlink()


def test_a_payload_larger_than_the_ring_and_the_end_behind_it(private_dir: Path) -> None:
    addr = ShmAddress(str(private_dir), "large.sock")
    payload = bytes(range(256)) * 20_000

    async def main() -> None:
        with bind_uds(addr) as listener:
            near = await MsgpackShmStream.connect_to(addr)
            far = shm_from_socket(listener.accept()[0], addr, max_frame_size=2**30)
            await far.secure()
            await far.secure()
        async with trio.open_nursery() as tn:

            async def send() -> None:
                near.put_bytes(1, payload)
                await near.flush()
                await near.send(Stop(1))
                await near.aclose()

            tn.start_soon(send)
            msg = await far.recv()
            assert isinstance(msg, Yield)
            assert payload in bytes(msg.pld)
            assert await far.recv() == Stop(1)
            with pytest.raises(TransportClosed, match="peer closed") as info:
                await far.recv()
            assert info.value.src_exc is None
        far.abort()

    try:
        run(main)
    finally:
        addr.sockpath.unlink()


def test_a_stream_at_hand_is_never_taken_for_rings() -> None:
    near, far = socket_pair()
    with near, far, pytest.raises(TransportClosed, match="never for rings"):
        SHM.wrap(near, None, 1000)


# -- a tree --


def test_a_tree_over_rings() -> None:
    before = set(os.listdir("/proc/self/fd"))

    async def main() -> None:
        async with tractor.open_nursery(enable_transports=["shm"]) as an:
            portal = await an.start_actor("ring-child", enable_modules=["ep_shm"])
            assert isinstance(portal.chan.transport, MsgpackShmStream)
            assert portal.chan.raddr.proto_key == "shm"
            assert await portal.run(ep_shm.say_hello, name="you") == "hello, you"
            data = os.urandom(5_000_000)
            assert await portal.run(ep_shm.echo, data=data) == data
            async with portal.open_stream_from(ep_shm.count_up, n=500) as stream:
                assert [i async for i in stream] == list(range(500))
            async with tractor.find_actor("ring-child") as found:
                assert found is not None
            await an.cancel()

    run(main)
    assert set(os.listdir("/proc/self/fd")) <= before


def test_rings_beside_unix_sockets() -> None:
    async def main() -> None:
        async with tractor.open_nursery(enable_transports=["uds", "shm"]) as an:
            portal = await an.start_actor("both", enable_modules=["ep_shm"])
            assert await portal.run(ep_shm.say_hello, name="you") == "hello, you"
            addrs = {addr.proto_key for addr in tractor.current_actor().ipc_server.addrs}
            assert addrs == {"uds", "shm"}
            await an.cancel()

    run(main)


def test_a_killed_actor_is_a_lost_peer_and_leaves_no_file() -> None:
    async def main() -> None:
        with pytest.raises(tractor.ActorFailure, match="SIGKILL"):
            await _kill_while_it_streams()

    run(main)


async def _kill_while_it_streams() -> None:
    async with tractor.open_nursery(enable_transports=["shm"]) as an:
        portal = await an.start_actor("ring-child", enable_modules=["ep_shm"])
        pid = await portal.run(ep_shm.my_pid)
        with pytest.raises(TransportClosed):
            await _stream_until_killed(portal, pid)


async def _stream_until_killed(portal: tractor.Portal, pid: int) -> None:
    async with portal.open_stream_from(ep_shm.count_up, n=10**9) as stream:
        async for i in stream:
            if i == 100:
                os.kill(pid, signal.SIGKILL)
