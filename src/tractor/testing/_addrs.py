"""Addresses for tests that nobody else uses, not even another test session beside this one."""

from __future__ import annotations

import itertools
import os
import random
import secrets
import socket
import sys
import threading

from tractor.address._types import UnwrappedAddress
from tractor.process._dirs import get_runtime_dir
from tractor.process._state import ProcessVar, of_process
from tractor.transport._table import get_address_cls

PORTS = range(10_240, 32_768)
"""Above the well-known ports, below those that systems hand out for outgoing connections."""
BLOCK = 256
"""Ports that a process reserves at once; the first of them is the guard."""
LOOPBACK = "127.0.0.1"

_lock = ProcessVar(threading.Lock)
_guards: list[int] = of_process([])
_owner: ProcessVar[int | None] = ProcessVar(lambda: None)
_ports: list[int] = of_process([])
_tried: set[int] = of_process(set())
_given: set[UnwrappedAddress] = of_process(set())
_numbers = itertools.count()


def get_rando_addr(tpt_proto: str) -> UnwrappedAddress:
    """An address of this host that nobody listens on, for a registrar or an actor of a test.

    Two calls never give the same one, nor do two processes that run side by side.

    Args:
        tpt_proto: the transport's key, such as ``'tcp'`` or ``'uds'``.

    Returns:
        The unwrapped address: a loopback port, or a directory (made if missing) and file name.

    Raises:
        NotImplementedError: there is no such transport here.
        RuntimeError: this process has used up all TCP ports that others left.
        PermissionError: the runtime directory is not this user's alone.
    """
    cls = get_address_cls(tpt_proto)
    with _lock.value:
        if tpt_proto == "tcp":
            return LOOPBACK, _next_port()
        directory = get_runtime_dir() if tpt_proto == "uds" else None
        while True:
            name = f"test-{next(_numbers)}-{secrets.token_hex(4)}"
            addr = cls.get_random(directory, name=name).unwrap()
            if addr not in _given:
                _given.add(addr)
                return addr


def reserve_ports() -> None:
    """Take a block of TCP ports for this process now, if it has none.

    A reservation lasts as long as the process, and takes one file descriptor.

    Raises:
        RuntimeError: all ports are reserved by other processes.
    """
    with _lock.value:
        if _owner.value != os.getpid() or not _ports:
            _reserve()


def reservations() -> frozenset[int]:
    """The file descriptors that hold this process's reservations."""
    return frozenset(_guards)


def _next_port() -> int:
    while True:
        if _owner.value != os.getpid() or not _ports:
            _reserve()
        port = _ports.pop()
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        return port


def _reserve() -> None:
    """Take the next free block.

    Its first port is bound, never to listen, until this process ends however it ends: no two
    processes can hold the same guard, and only its holder gives out the rest of the block.
    """
    if _owner.value != os.getpid():
        # A forked child has its parent's guard, too, and must not share its ports.
        _owner.value = os.getpid()
        _ports.clear()
        _tried.clear()
        for inherited in _guards:
            socket.close(inherited)
        _guards.clear()
    blocks = [first for first in PORTS[::BLOCK] if first not in _tried]
    for first in random.SystemRandom().sample(blocks, len(blocks)):
        _tried.add(first)
        guard = socket.socket()
        try:
            if sys.platform == "win32":
                guard.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            guard.bind((LOOPBACK, first))
        except OSError:
            guard.close()
            continue
        # The system closes it when the process ends.
        _guards.append(guard.detach())
        _ports.extend(range(first + 1, min(first + BLOCK, PORTS.stop)))
        return
    raise RuntimeError(
        f"no TCP ports left for tests: every block of {BLOCK} ports between {PORTS.start} and "
        f"{PORTS.stop - 1} was given out by this process or is held by another one"
    )
