"""Attacks by somebody who holds the key, each in a process of its own, and what it may cost the victim.

``python attacks.py NAME '["127.0.0.1", 1616]'`` connects, prints a JSON line when it begins and one at its height, and
waits at both for a line; at its end it prints what it has seen.  Nothing here is built on the package.
"""

from __future__ import annotations

import itertools
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from meeting_keys import meeting
from raw_peer import (
    CREDIT,
    ERROR,
    RETURN,
    START_ACK,
    STARTED,
    STOP,
    YIELD,
    RawPeer,
    error,
    frame,
    listen,
    start,
    text_of,
)

__all__ = ["ATTACKS", "Attack"]

VICTIM = "ep_victim"
"""The module that the victim has enabled."""

MIB = 2**20

Facts = dict[str, Any]


class Stage:
    """What an attack has: where the victim listens, and the two moments at which it is looked at."""

    def __init__(self, address: Any, directory: str) -> None:
        self.address = tuple(address)
        self.directory = directory
        self._opened: list[RawPeer] = []

    def peer(self, number: int = 0) -> RawPeer:
        """A peer that has passed."""
        peer = RawPeer(self.address)
        self._opened.append(peer)
        return peer.open(("intruder", f"{number:032d}"))

    def begin(self) -> None:
        """What comes next counts."""
        self._say({})

    def height(self, **facts: Any) -> None:
        """All is done that costs the victim something, and held until the answer."""
        self._say(facts)

    def _say(self, facts: Facts) -> None:
        print(json.dumps(facts), flush=True)
        if not sys.stdin.readline():
            sys.exit(1)

    def close(self) -> None:
        """Hang up everywhere."""
        for peer in self._opened:
            peer.close()


@dataclass(frozen=True)
class Attack:
    """One attack, and what it may cost: about ten times what was seen, and what the limits allow.

    Attributes:
        run: carries it out; returns what it has seen.
        memory: bytes that the victim may need beyond what it had.
        kept: bytes of them that it may still have a moment after the attackers have left.
        maps: mappings more.
        lag: seconds of CPU that the victim's loop may be held at a time.
        latency: seconds that a rightful caller may wait for an answer, on a machine that is free for both.
    """

    run: Callable[[Stage], Facts]
    memory: int = 64 * MIB
    kept: int = 48 * MIB
    maps: int = 300
    lag: float = 1.0
    latency: float = 2.0


ATTACKS: dict[str, Attack] = {}


def attack(name: str, **costs: Any) -> Callable[[Callable[[Stage], Facts]], Any]:
    """Add it to the table."""

    def add(run: Callable[[Stage], Facts]) -> Callable[[Stage], Facts]:
        ATTACKS[name] = Attack(run, **costs)
        return run

    return add


def start_of(uid: tuple[str, str], cid: int, func: str, **more: Any) -> bytes:
    """The frame of a request to the victim's module."""
    return frame(
        start(cid, more.pop("ns", VICTIM), func, more.pop("kwargs", None), uid=uid, **more)
    )


def odd(count: int, first: int = 1) -> range:
    """Dialog ids of one who has connected."""
    return range(first, first + 2 * count, 2)


def last_words(peer: RawPeer) -> Facts:
    """Whether the victim has closed, and the text of the last error before it did."""
    text = ""
    try:
        while True:
            text = text_of(peer.recv()) or text
    except TimeoutError:
        return {"closed": False, "text": text}
    except ConnectionError:
        return {"closed": True, "text": text}


# -- reading --------------------------------------------------------------------------------------------


@attack("a frame in pieces of one byte")
def pieces(it: Stage) -> Facts:
    peer = it.peer()
    it.begin()
    peer.send_bytes((MIB).to_bytes(4, "little"))
    for _ in range(131_072):
        peer.sock.send(b"x")
    it.height()
    return {}


@attack("half a frame on each of 100 connections", memory=128 * MIB, kept=128 * MIB)
def halves(it: Stage) -> Facts:
    peers = [it.peer(n) for n in range(100)]
    it.begin()
    for size in (1, 3, 4, 100_000, 300_000):
        for peer in peers:
            peer.send_bytes((MIB).to_bytes(4, "little")[:size] if size < 5 else b"x" * size)
            if size == 1:
                peer.send_bytes(b"")
    it.height()
    return {}


@attack("frames of 50 MB for no dialog", memory=300 * MIB)
def large_frames(it: Stage) -> Facts:
    peer = it.peer()
    data = frame([YIELD, 99, bytes(50_000_000)])
    it.begin()
    for _ in range(4):
        peer.send_bytes(data)
    it.height()
    return {}


# -- credit ---------------------------------------------------------------------------------------------


def _opened_stream(peer: RawPeer, func: str, **kwargs: Any) -> None:
    peer.send(start(1, VICTIM, func, kwargs, uid=peer.uid, kind="context"))
    assert peer.answer(1)[0] == START_ACK
    assert peer.answer(1)[0] == STARTED


@attack("a stream of 300,000 messages beyond its credit")
def beyond_credit(it: Stage) -> Facts:
    peer = it.peer()
    _opened_stream(peer, "reads_nothing")
    data = frame([YIELD, 1, 0]) * 300_000
    it.begin()
    sent = peer.pour(data)
    message = peer.end(1)
    it.height()
    return {"text": text_of(message), "sent": sent == len(data)}


@attack("a stream of 400 MB beyond its credit", memory=256 * MIB)
def beyond_credit_bytes(it: Stage) -> Facts:
    peer = it.peer()
    _opened_stream(peer, "reads_nothing")
    data = frame([YIELD, 1, bytes(MIB)])
    it.begin()
    for _ in range(400):
        peer.send_bytes(data)
    message = peer.end(1)
    it.height()
    return {"text": text_of(message)}


@attack("credit for the victim without end")
def endless_credit(it: Stage) -> Facts:
    peer = it.peer()
    peer.send(start(1, VICTIM, "sends_on", uid=peer.uid, kind="asyncgen"))
    it.begin()
    peer.send(*[[CREDIT, 1, 2**63 - 1, 2**63 - 1]] * 1000)
    time.sleep(0.5)
    it.height()
    return {}


# -- bombs ----------------------------------------------------------------------------------------------


def collisions(bits: int = 15) -> bytes:
    """A map whose keys are arrays of -1 and -2, which all have one hash: 0.6 MB."""
    keys = itertools.product(b"\xff\xfe", repeat=bits)
    head = bytes([0x90 | bits])
    return (
        b"\xdf" + (1 << bits).to_bytes(4, "big") + b"".join(head + bytes(k) + b"\0" for k in keys)
    )


def containers(count: int = 20_000_000) -> bytes:
    """An array of empty arrays: a byte each here, 56 in Python."""
    return b"\xdd" + count.to_bytes(4, "big") + b"\x90" * count


def numbers(bits: int = 17) -> bytes:
    """A map of 85,000 integers that meet in one place of its table: 0.5 MB."""
    keys = [msgspec.msgpack.encode(key) + b"\0" for key in meeting(bits)]
    return b"\xdf" + len(keys).to_bytes(4, "big") + b"".join(keys)


BOMBS = {"collisions": collisions, "containers": containers, "numbers": numbers}


def _raw_kwargs(payload: bytes) -> msgspec.Raw:
    return msgspec.Raw(b"\x81\xa1x" + payload)


def _bomb_in_arguments(ns: str, func: str, what: str, it: Stage) -> Facts:
    peer = it.peer()
    data = frame(start(1, ns, func, _raw_kwargs(BOMBS[what]()), uid=peer.uid))
    it.begin()
    peer.send_bytes(data)
    message = peer.end(1)
    it.height()
    after = peer.call(3, VICTIM, "double", x=4)
    return {"text": text_of(message), "value": after[2:]}


def _bomb_in_a_stream(what: str, it: Stage) -> Facts:
    peer = it.peer()
    _opened_stream(peer, "reads_all")
    data = frame([YIELD, 1, msgspec.Raw(BOMBS[what]())])
    it.begin()
    peer.send_bytes(data)
    peer.send([STOP, 1])
    message = peer.end(1)
    it.height()
    return {"text": text_of(message), "type": message[:1]}


def _read_late(it: Stage, how: str, *payloads: Any) -> Facts:
    """All of them are there when the victim begins to read."""
    peer = it.peer()
    _opened_stream(peer, "reads_late", how=how, at_hand=len(payloads))
    data = frame(*([YIELD, 1, payload] for payload in payloads))
    it.begin()
    began = time.perf_counter()
    peer.send_bytes(data)
    peer.send([STOP, 1])
    message = peer.end(1)
    took = time.perf_counter() - began
    it.height()
    return {"text": text_of(message), "type": message[0], "count": message[2:], "took": took}


def _bomb_in_a_batch(what: str, it: Stage) -> Facts:
    return _read_late(it, "in batches", 0, 0, msgspec.Raw(BOMBS[what]()))


def _bomb_in_a_result(what: str, it: Stage) -> Facts:
    """The victim is made to call the intruder, who answers with it."""
    proto = "tcp" if isinstance(it.address[1], int) else "uds"
    server, address = listen(proto, it.directory)
    payload = BOMBS[what]()
    peer = it.peer()
    it.begin()
    peer.send(start(1, VICTIM, "calls", {"addr": list(address)}, uid=peer.uid))
    with server, RawPeer(_accepted(server)) as callee:
        callee.open(("callee", "2" * 32))
        while True:
            message = callee.recv()
            if message[0] == 3:
                callee.send([RETURN, message[1], msgspec.Raw(payload)])
                break
        told = peer.end(1)
        it.height()
    return {"text": text_of(told), "type": told[:1]}


def _accepted(server: socket.socket) -> socket.socket:
    server.settimeout(20)
    sock, _ = server.accept()
    return sock


for _what in BOMBS:
    for _where, _run in {
        "the arguments of a function": lambda w, it: _bomb_in_arguments(VICTIM, "takes", w, it),
        "the arguments of no function": lambda w, it: _bomb_in_arguments(VICTIM, "nothing", w, it),
        "a request to the runtime": lambda w, it: _bomb_in_arguments("self", "_cancel_task", w, it),
        "a stream": _bomb_in_a_stream,
        "a batch": _bomb_in_a_batch,
        "a result": _bomb_in_a_result,
    }.items():
        ATTACKS[f"{_what} in {_where}"] = Attack(
            lambda it, run=_run, what=_what: run(what, it),  # type: ignore[misc]
            memory=256 * MIB,
            kept=128 * MIB,
            # A million containers are counted, up to three times; a table may take 0.2 s.
            lag=10,
            latency=10,
        )


def _taken(how: str, it: Stage) -> Facts:
    """None is refused, also where the machine is slow."""
    return _read_late(it, how, 0, *[msgspec.Raw(numbers(14))] * 16)


for _how in ("one by one", "in batches", "by closing"):
    ATTACKS[f"16 times 44 kB of numbers that meet, read {_how}"] = Attack(
        # Each takes 0.05 s, and all 0.8 s: `lets_others_run` says how long the loop may be held.
        lambda it, how=_how: _taken(how, it),  # type: ignore[misc]
        lag=10,
        latency=10,
    )


@attack("1,000 times 4 kB of lists, read in batches")
def small_lists(it: Stage) -> Facts:
    lists = msgspec.Raw(b"\xdc\x0f\xf0" + b"\x90" * 0xFF0)
    return _read_late(it, "in batches", 0, *[lists] * 1000)


# -- replies --------------------------------------------------------------------------------------------

LARGE = 1_000_000


@attack(
    "1,000 replies of 1 MB at once, not read", memory=400 * MIB, kept=128 * MIB, lag=2, latency=3
)
def replies_at_once(it: Stage) -> Facts:
    peer = it.peer()
    it.begin()
    peer.send(*[start(c, VICTIM, "large", {"size": LARGE}, uid=peer.uid) for c in odd(1000)])
    time.sleep(2)
    it.height()
    return {}


@attack(
    "300 replies of 1 MB one after the other, not read",
    memory=400 * MIB,
    kept=128 * MIB,
    lag=3,
    latency=4,
)
def replies_paced(it: Stage) -> Facts:
    peer = it.peer()
    it.begin()
    for cid in odd(300):
        peer.send(start(cid, VICTIM, "large", {"size": LARGE}, uid=peer.uid))
        time.sleep(0.002)
    it.height()
    # Those that were kept are begun when the others have been taken.
    answers = sum(peer.recv()[0] == RETURN for _ in range(300))
    return {"answers": answers}


# -- turns ----------------------------------------------------------------------------------------------


def _drained(peer: RawPeer) -> threading.Thread:
    """What the victim says is read and dropped."""

    def drain() -> None:
        try:
            while peer.sock.recv(1 << 20):
                pass
        except OSError:
            pass

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    return thread


def _flood(it: Stage, data: bytes, before: bytes = b"", seconds: float = 1.0) -> Facts:
    peer = it.peer()
    peer.send_bytes(before)
    _drained(peer)
    it.begin()
    sent = 0
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            peer.sock.sendall(data)
            sent += len(data)
    except OSError:
        pass
    it.height()
    return {"sent": sent}


@attack("a flood of messages of no dialog")
def flood_of_late_messages(it: Stage) -> Facts:
    return _flood(it, frame([YIELD, 99, 0], [RETURN, 2, 0], [CREDIT, 4, 1, 1], [STOP, 6]) * 5000)


@attack("a flood of errors of the channel")
def flood_of_boot_errors(it: Stage) -> Facts:
    return _flood(it, frame(error(0), error(None)) * 3000)


@attack("a flood of credit")
def flood_of_credit(it: Stage) -> Facts:
    opened = frame(start(1, VICTIM, "reads_nothing", uid=("intruder", "0" * 32), kind="context"))
    return _flood(it, frame([CREDIT, 1, 1, 1]) * 10_000, opened)


@attack("a flood of calls that are served")
def flood_of_calls(it: Stage) -> Facts:
    """By one that takes its replies, so that nothing but its turns bounds it."""
    peer = it.peer()
    it.begin()
    end = time.monotonic() + 1
    cid = -1
    answered = 0
    while time.monotonic() < end:
        cids = odd(4000, cid + 2)
        cid = cids[-1]
        peer.send(*[start(c, VICTIM, "double", {"x": 1}, uid=peer.uid) for c in cids])
        for _ in cids:
            answered += peer.recv()[0] == RETURN
    it.height()
    return {"answered": answered, "asked": (cid + 1) // 2}


@attack("a flood of requests to the runtime")
def flood_of_runtime_requests(it: Stage) -> Facts:
    """Those that any peer may make."""
    peer = it.peer()
    _drained(peer)
    data = frame(
        *[start(c, "self", "_cancel_task", {"cid": 99}, uid=peer.uid) for c in odd(20_000)],
        *[start(c, "self", "_tree", {"limit": 1.0}, uid=peer.uid) for c in odd(500, 100_001)],
    )
    it.begin()
    peer.pour(data)
    time.sleep(0.5)
    it.height()
    return {}


@attack("requests that are refused")
def refused(it: Stage) -> Facts:
    peer = it.peer()
    data = frame(*[start(c, VICTIM, f"no_{c}", uid=peer.uid) for c in odd(100_000)])
    it.begin()
    peer.pour(data)
    it.height()
    return last_words(peer)


@attack("requests to the runtime that are refused")
def refused_by_the_runtime(it: Stage) -> Facts:
    peer = it.peer()
    names = ("_progress", "_descendants", "no_such", "_respawn", "register_actor")
    data = frame(
        *[start(c, "self", names[c % 5], {"up": [], "gone": []}, uid=peer.uid) for c in odd(50_000)]
    )
    it.begin()
    peer.pour(data)
    it.height()
    return last_words(peer)


def _resets(how: Callable[[int], list[Any]], func: str, kind: str, it: Stage) -> Facts:
    peer = it.peer()
    data = b"".join(
        start_of(peer.uid, cid, func, kind=kind) + frame(how(cid)) for cid in odd(20_000)
    )
    it.begin()
    peer.pour(data)
    it.height()
    return last_words(peer)


def _cancel_of(cid: int) -> list[Any]:
    uid = ("intruder", "0" * 32)
    return start(cid + 1_000_000, "self", "_cancel_task", {"cid": cid}, uid=uid)


for _how, _reset in {
    "a cancel": _cancel_of,
    "an error": error,
    "a stop": lambda cid: [STOP, cid],
    "a message out of place": lambda cid: [STARTED, cid, 0],
}.items():
    for _func, _kind in (("sleep_on", "call"), ("sends_on", "asyncgen"), ("stays", "context")):
        if (_how, _kind) not in (("a stop", "context"),):
            ATTACKS[f"a {_kind} reset by {_how}, 20,000 times"] = Attack(
                lambda it, r=_reset, f=_func, k=_kind: _resets(r, f, k, it),  # type: ignore[misc]
                memory=256 * MIB,
            )


@attack("12,000 dialogs that are left at once", memory=600 * MIB, kept=300 * MIB, lag=3, latency=6)
def many_dialogs(it: Stage) -> Facts:
    peers = [it.peer(n) for n in range(3)]
    served = 0
    for peer in peers:
        peer.send(*[start(c, VICTIM, "stays", uid=peer.uid, kind="context") for c in odd(5000)])
        answers = [peer.recv() for _ in range(5000 + 4096)]
        served += sum(message[0] == STARTED for message in answers)
        busy = {text_of(m) for m in answers if m[0] == ERROR}
        assert len(busy) == 1, busy
    it.begin()
    for peer in peers:
        peer.close()
    it.height()
    return {"served": served}


def main() -> None:
    name, address, directory = sys.argv[1:]
    it = Stage(json.loads(address), directory)
    facts = ATTACKS[name].run(it)
    it.close()
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
