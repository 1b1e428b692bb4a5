"""The opening exchange: every cell, every way to cut the bytes, every liar."""

from __future__ import annotations

import hashlib
import hmac
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor._proto.connection.auth import (
    FIELDS,
    MAGIC,
    PROTOCOL_VERSION,
    AuthEvent,
    AuthState,
    Handshake,
    HandshakeError,
    Role,
)
from tractor._proto.machine import IllegalEvent

KEY = b"k" * 32
NONCES: dict[str, bytes] = {"connect": b"c" * 32, "accept": b"a" * 32}
HELLO = MAGIC + PROTOCOL_VERSION.to_bytes(2, "little")
ROLES: tuple[Role, ...] = ("connect", "accept")


def make(role: Role, key: bytes | None = KEY) -> Handshake:
    return Handshake(role, key, NONCES[role])


def proof(role: Role, key: bytes = KEY) -> bytes:
    text = HELLO + {"connect": b"C", "accept": b"A"}[role] + NONCES["connect"] + NONCES["accept"]
    return hmac.new(key, text, hashlib.sha256).digest()


def peer_of(role: Role) -> Role:
    return "accept" if role == "connect" else "connect"


def opening(role: Role, key: bytes = KEY) -> bytes:
    """All that an honest peer with that role sends."""
    return HELLO + NONCES[role] + proof(role, key)


def at(role: Role, state: AuthState) -> Handshake:
    machine = make(role)
    if state is AuthState.NEW:
        return machine
    machine.start()
    whole = opening(peer_of(role))
    if state is AuthState.FAILED:
        with pytest.raises(HandshakeError):
            machine.receive(b"GET /")
    else:
        machine.receive(
            whole[
                : {AuthState.HELLO: 0, AuthState.NONCE: 6, AuthState.PROOF: 38, AuthState.DONE: 70}[
                    state
                ]
            ]
        )
    assert machine.state is state
    return machine


def feed(machine: Handshake, event: AuthEvent) -> None:
    if event is AuthEvent.START:
        machine.start()
    elif event is AuthEvent.BYTES:
        machine.receive(b"")
    elif event is AuthEvent.EOF:
        machine.receive_eof()
    else:
        machine.deadline()


WAITING = (AuthState.HELLO, AuthState.NONCE, AuthState.PROOF)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("event", list(AuthEvent))
@pytest.mark.parametrize("state", list(AuthState))
def test_cell(role: Role, state: AuthState, event: AuthEvent) -> None:
    machine = at(role, state)
    history = list(machine.history)
    if (state is AuthState.NEW) is (event is AuthEvent.START) and state in (
        AuthState.NEW,
        *WAITING,
    ):
        if event in (AuthEvent.START, AuthEvent.BYTES):
            feed(machine, event)
            assert machine.state is (AuthState.HELLO if event is AuthEvent.START else state)
        else:
            with pytest.raises(HandshakeError, match=state.value):
                feed(machine, event)
            assert machine.state is AuthState.FAILED
        return
    with pytest.raises(IllegalEvent) as caught:
        feed(machine, event)
    assert (machine.state, machine.history) == (state, history)
    text = str(caught.value)
    for part in (state.value, event.value, role, *(past.value for _, past in history)):
        assert part in text


def test_the_grammar_covers_every_waiting_state() -> None:
    assert {state for state, keyed in FIELDS if keyed} == set(WAITING)
    assert sum(size for (_, keyed), (size, _) in FIELDS.items() if keyed) == len(opening("connect"))


def test_the_exchange_with_a_key() -> None:
    connect, accept = make("connect"), make("accept")
    first = connect.start()
    assert first == HELLO + NONCES["connect"]
    greeting = accept.start()
    assert greeting == HELLO + NONCES["accept"]
    # Who accepts gives away nothing that needs the key until the other side has proven it.
    assert accept.receive(first) == (b"", False, b"")
    proven = connect.receive(greeting)
    assert proven == (proof("connect"), False, b"")
    answer = accept.receive(proven.send)
    assert answer == (proof("accept"), True, b"")
    # The acceptor's first messages may ride along with its proof.
    assert connect.receive(answer.send + b"frames") == (b"", True, b"frames")


def test_without_a_key_the_hello_is_all() -> None:
    for role in ROLES:
        machine = Handshake(role, None, b"")
        assert not machine.keyed
        assert machine.start() == HELLO
        assert machine.receive(HELLO + b"frames") == (b"", True, b"frames")


@pytest.mark.parametrize("role", ROLES)
def test_the_wrong_key_fails(role: Role) -> None:
    machine = make(role)
    machine.start()
    with pytest.raises(HandshakeError, match="key"):
        machine.receive(opening(peer_of(role), b"x" * 32))
    assert machine.state is AuthState.FAILED


@given(st.binary(max_size=200))
def test_who_accepts_sends_a_stranger_nothing_computed_with_the_key(data: bytes) -> None:
    """Not even something to test guesses of a weak key on."""
    accept = make("accept")
    accept.start()
    assert accept.receive(HELLO)[0] == b""
    try:
        assert accept.receive(data).send == b""
    except HandshakeError:
        assert len(data) >= 64


@given(st.binary(min_size=64, max_size=200))
def test_a_connector_gives_an_impostor_no_message(data: bytes) -> None:
    """Its proof is of no use to whoever does not hold the key already; done it is not."""
    connect = make("connect")
    connect.start()
    sent = connect.receive(HELLO + data[:32])
    assert not sent.done
    with pytest.raises(HandshakeError, match="key"):
        connect.receive(data[32:])
    assert connect.state is AuthState.FAILED


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("nonce", ["own", "other"])
def test_a_proof_cannot_be_reflected(role: Role, nonce: str) -> None:
    """A peer without the key sends back the nonce (or one of its own) and the proof of this side."""
    machine = make(role)
    greeting = machine.start()
    theirs = greeting[6:] if nonce == "own" else b"x" * 32
    machine.receive(HELLO + theirs)
    own = machine._proof(role)
    with pytest.raises(HandshakeError, match="key"):
        machine.receive(own)


def test_a_connector_does_not_take_its_own_echo_for_a_peer() -> None:
    """Everything that it sends comes back to it, as from a socket connected to itself."""
    connect = make("connect")
    echo = connect.start()
    sent = connect.receive(echo).send
    with pytest.raises(HandshakeError, match="key"):
        connect.receive(sent)


@pytest.mark.parametrize("role", ROLES)
def test_a_recorded_peer_cannot_be_replayed_on_another_connection(role: Role) -> None:
    machine = Handshake(role, KEY, b"n" * 32)
    machine.start()
    with pytest.raises(HandshakeError, match="key"):
        machine.receive(opening(peer_of(role)))


def test_the_proof_is_bound_to_version_role_and_both_nonces() -> None:
    """Change one thing of what was proven, and it proves nothing."""
    c, a = NONCES["connect"], NONCES["accept"]
    right = HELLO + b"C" + c + a
    wrong = {
        "magic": b"xxxx" + HELLO[4:] + b"C" + c + a,
        "version": MAGIC + b"\0\0" + b"C" + c + a,
        "role": HELLO + b"A" + c + a,
        "no role": HELLO + c + a,
        "connector's nonce": HELLO + b"C" + b"x" * 32 + a,
        "acceptor's nonce": HELLO + b"C" + c + b"x" * 32,
        "their order": HELLO + b"C" + a + c,
    }
    for what, text in {**wrong, "nothing": right}.items():
        accept = make("accept")
        accept.start()
        accept.receive(HELLO + c)
        sent = hmac.digest(KEY, text, "sha256")
        if what == "nothing":
            assert accept.receive(sent).done
        else:
            with pytest.raises(HandshakeError, match="key"):
                accept.receive(sent)


def test_what_comes_behind_a_wrong_proof_is_thrown_away() -> None:
    accept = make("accept")
    accept.start()
    with pytest.raises(HandshakeError):
        accept.receive(HELLO + NONCES["connect"] + bytes(32) + b"messages" * 10_000)
    assert accept._buffer == b""
    with pytest.raises(IllegalEvent):
        accept.receive(proof("connect"))


@pytest.mark.parametrize("role", ROLES)
def test_an_opening_without_a_key_never_passes_where_one_is_asked_for(role: Role) -> None:
    """As on a Unix socket: hello, and frames right behind it."""
    machine = make(role)
    machine.start()
    frames = (40).to_bytes(4, "little") + b"m" * 40
    step = machine.receive(HELLO + frames)
    assert (step.done, step.rest) == (False, b"")
    with pytest.raises(HandshakeError, match="key"):
        machine.receive(frames)


@pytest.mark.parametrize("version", [0, 2, 255, 256, 0xFFFF])
@pytest.mark.parametrize("key", [KEY, None])
@pytest.mark.parametrize("role", ROLES)
def test_no_other_version_is_spoken(role: Role, key: bytes | None, version: int) -> None:
    machine = make(role, key)
    machine.start()
    whole = MAGIC + version.to_bytes(2, "little") + opening(peer_of(role))[6:]
    with pytest.raises(HandshakeError, match=f"version {version},"):
        machine.receive(whole)
    assert machine.state is AuthState.FAILED


@given(st.integers(0, 69), st.integers(0, 7), st.sampled_from(ROLES))
def test_one_wrong_bit_anywhere_fails(at_byte: int, bit: int, role: Role) -> None:
    whole = bytearray(opening(peer_of(role)))
    whole[at_byte] ^= 1 << bit
    machine = make(role)
    machine.start()
    with pytest.raises(HandshakeError):
        machine.receive(bytes(whole))
    assert machine.state is AuthState.FAILED


@pytest.mark.parametrize("key", [KEY, None])
@pytest.mark.parametrize("role", ROLES)
def test_a_version_mismatch_names_both_on_both_sides(role: Role, key: bytes | None) -> None:
    machine = make(role, key)
    # What the peer needs to say the same is out before anything has come in.
    assert machine.start()[:6] == HELLO
    with pytest.raises(
        HandshakeError, match=rf"version 77\b.*version {PROTOCOL_VERSION}\b"
    ) as caught:
        machine.receive(MAGIC + (77).to_bytes(2, "little"))
    assert (caught.value.own_version, caught.value.peer_version) == (PROTOCOL_VERSION, 77)


@pytest.mark.parametrize(
    ("good", "bad"), [(0, b"GET / HTTP/1.1\r\n"), (0, b"\0"), (1, b"\x16"), (3, b"x")]
)
def test_garbage_fails_at_its_first_wrong_byte(good: int, bad: bytes) -> None:
    accept = make("accept")
    accept.start()
    for i in range(good):
        assert accept.receive(MAGIC[i : i + 1]) == (b"", False, b"")
    with pytest.raises(HandshakeError, match="protocol") as caught:
        accept.receive(bad[:1])
    assert caught.value.peer_version is None


@given(st.binary(max_size=200), st.sampled_from(ROLES))
def test_no_garbage_passes(data: bytes, role: Role) -> None:
    machine = make(role)
    machine.start()
    try:
        step = machine.receive(HELLO + data)
    except HandshakeError:
        assert len(data) >= 64
    else:
        assert not step.done
        assert step.rest == b""
        assert len(data) < 64


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


CUTS = st.lists(st.integers(0, 10_000), max_size=80)


@given(st.sampled_from(ROLES), CUTS, st.binary(max_size=40), st.sampled_from([KEY, None]))
def test_the_cutting_of_the_bytes_does_not_matter(
    role: Role, cuts: list[int], tail: bytes, key: bytes | None
) -> None:
    machine = make(role, key)
    whole = opening(peer_of(role)) if key else HELLO
    machine.start()
    sent = rest = b""
    done = False
    for chunk in cut(whole + tail, cuts):
        if done:
            rest += chunk
            continue
        step = machine.receive(chunk)
        sent += step.send
        done = step.done
        rest += step.rest
    expected = proof(role) if key else b""
    assert (sent, done, rest) == (expected, True, tail)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("state", WAITING)
def test_only_a_connector_that_has_proven_is_told_to_look_at_its_key(
    role: Role, state: AuthState
) -> None:
    """By itself: a peer that refuses it says nothing."""
    with pytest.raises(HandshakeError, match=state.value) as caught:
        at(role, state).receive_eof()
    assert ("authkey" in str(caught.value)) is (role == "connect" and state is AuthState.PROOF)


def test_trickled_bytes_leave_a_bounded_history() -> None:
    accept = make("accept")
    accept.start()
    for byte in opening("connect"):
        accept.receive(bytes([byte]))
    assert len(accept.history) == 4


def test_constructor_refuses_what_cannot_work() -> None:
    with pytest.raises(ValueError, match="role"):
        Handshake("listen", None, b"")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="16"):
        Handshake("connect", b"short", b"n" * 32)
    with pytest.raises(ValueError, match="32"):
        Handshake("connect", KEY, b"n")


def test_proofs_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        calls.append((a, b))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    accept = make("accept")
    accept.start()
    with pytest.raises(HandshakeError):
        accept.receive(opening("connect"))
    assert calls == [(proof("connect"), proof("connect"))]
