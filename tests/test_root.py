"""Boot of the root actor: options, election of the registrar, and what is put back afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ep_supervise
import pytest
import trio
from ep_supervise_tools import one_daemon, program, run, spoken

import tractor
from tractor._root_options import RootKwargs
from tractor.discovery import TCPAddress, UDSAddress, wrap_address
from tractor.spawn import SpawnMethodKey

uds_only = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")


@pytest.fixture(autouse=True)
def arguments_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the suite runs on another backend: the environment would beat `start_method`."""
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)


def test_a_loop_of_asyncio_is_told_how_to_start() -> None:
    async def main() -> None:
        async with tractor.open_nursery():
            raise AssertionError("it was opened")

    with pytest.raises(
        RuntimeError, match=r"no task of trio's: .*trio\.run\(main\).*as_asyncio_guest"
    ):
        asyncio.run(main())
    # Nothing was claimed: the process may be an actor yet.
    trio.run(one_root)


async def one_root() -> None:
    async with tractor.open_root_actor(ensure_registry=False):
        assert tractor.current_actor().name == "root"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def process_state() -> dict[str, Any]:
    """What a runtime may change in its process while it is open."""
    logger = logging.getLogger("tractor")
    return {
        "vars": tractor.get_runtime_vars(),
        # SIGALRM is the watchdog's.
        "signals": {
            s: signal.getsignal(s) for s in signal.valid_signals() if s is not signal.SIGALRM
        },
        "breakpoint": sys.breakpointhook,
        "excepthook": sys.excepthook,
        "environ": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        "level": logger.level,
        "handlers": list(logger.handlers),
        "actor": tractor.current_actor(err_on_no_runtime=False),
    }


@pytest.fixture
def changes_nothing() -> Iterator[None]:
    before = process_state()
    assert before["vars"] == tractor.get_runtime_vars(clear_values=True)
    assert before["actor"] is None
    yield
    assert process_state() == before


pytestmark = pytest.mark.usefixtures("changes_nothing")


# -- the implicit and the explicit root --


def test_a_nursery_boots_a_root_and_takes_it_down() -> None:
    async def main() -> None:
        with pytest.raises(tractor.NoRuntime):
            tractor.current_actor()
        assert not tractor.is_root_process()
        async with tractor.open_nursery():
            assert tractor.current_actor().is_root
            assert tractor.is_root_process()
        assert tractor.current_actor(err_on_no_runtime=False) is None
        assert not tractor.is_root_process()

    run(main)


def test_what_the_root_says_of_itself(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            assert actor is tractor.current_actor()
            assert isinstance(actor, tractor.Registrar)
            assert isinstance(actor, tractor.Actor)
            assert tractor.Arbiter is tractor.Registrar
            assert (actor.name, actor.pid) == ("root", os.getpid())
            assert actor.aid.uid == ("root", actor.aid.uuid)
            assert actor.is_root
            assert actor.is_registrar
            assert not actor.is_infected_aio()
            assert actor.accept_addrs == [reg_addr]
            assert actor.accept_addr == reg_addr
            assert actor.reg_addrs == [reg_addr]
            assert actor.registry_addrs == [wrap_address(reg_addr)]
            assert actor.enable_modules == []
            assert actor.msg_buffer_size == 64
            assert (actor.cancel_called, actor.cancel_complete) == (False, False)
            assert actor.cancel_caller is None
            assert "root" in repr(actor)
            assert repr(actor) == actor.pformat()
            with pytest.raises(RuntimeError):
                actor.get_parent()
            record = actor.statistics()
            with pytest.raises(AttributeError):
                record.peers = 1  # type: ignore[misc]
            assert not tractor.debug_mode()
            handed = ep_supervise.runtime_vars()
            assert handed["_is_root"]
            assert handed["_registry_addrs"] == [reg_addr]
            handed["_is_root"] = False
            assert ep_supervise.runtime_vars()["_is_root"], "a copy is given, not the thing itself"
            assert isinstance(tractor.get_runtime_vars(as_dict=False), tractor.RuntimeVars)
        assert actor.cancel_complete

    run(main)


def test_the_own_name_and_bind_addresses() -> None:
    registry, other = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())

    async def main() -> None:
        async with tractor.open_root_actor(
            name="boss", registry_addrs=[registry], tpt_bind_addrs=[other]
        ) as actor:
            assert actor.name == "boss"
            assert set(actor.accept_addrs) == {registry, other}

    run(main)


@uds_only
def test_every_form_of_an_address_is_accepted(tmp_path: Path) -> None:
    port = free_port()

    async def main() -> None:
        for form in (
            ("127.0.0.1", port),
            TCPAddress("127.0.0.1", port),
            f"/ip4/127.0.0.1/tcp/{port}",
        ):
            async with tractor.open_root_actor(registry_addrs=[form]) as actor:
                assert actor.reg_addrs == [("127.0.0.1", port)]
        wrapped = UDSAddress(str(tmp_path), "own.sock")
        async with tractor.open_root_actor(registry_addrs=[wrapped]) as actor:
            assert actor.reg_addrs == [(str(tmp_path), "own.sock")]

    run(main)


@uds_only
def test_several_transports_at_once() -> None:
    async def main() -> None:
        port = free_port()
        async with (
            tractor.open_root_actor(
                enable_transports=["tcp", "uds"], registry_addrs=[("127.0.0.1", port)]
            ),
            tractor.open_nursery() as an,
        ):
            portal = await an.start_actor("both", enable_modules=["ep_supervise"])
            told = await portal.run(ep_supervise.describe)
            kinds = {wrap_address(tuple(a)).proto_key for a in told["accept_addrs"]}
            assert kinds == {"tcp", "uds"}
            await portal.cancel_actor()

    run(main)


def test_the_root_serves_modules_to_its_children() -> None:
    async def main() -> None:
        async with one_daemon(enable_modules=["ep_supervise"]) as (_, portal):
            assert await portal.run(ep_supervise.call_parent) == [os.getpid(), 11]
            await portal.cancel_actor()

    run(main)


@pytest.mark.parametrize("wrong", ["ep_supervise", [b"ep_supervise"]])
def test_modules_that_are_no_list_of_names(wrong: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="`enable_modules` must be a list of module names"):
            async with tractor.open_root_actor(enable_modules=wrong):
                pass
        async with tractor.open_nursery() as an:
            for start in (an.start_actor, partial(an.run_in_actor, ep_supervise.pid)):
                with pytest.raises(TypeError, match="must be a list of module names"):
                    await start(name="it", enable_modules=wrong)
            assert an.statistics().spawned == 0

    run(main)
    with pytest.raises(TypeError, match="must be a list of module names"):
        tractor.run_daemon(wrong)


def test_a_module_to_enable_that_cannot_be_imported() -> None:
    async def main() -> None:
        with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
            async with tractor.open_root_actor(enable_modules=["no_such_module_at_all"]):
                pytest.fail("the root came up")

    run(main)


# -- one root a process --


def test_a_second_root_is_refused_and_the_first_lives_on() -> None:
    async def main() -> None:
        async with one_daemon() as (_, portal):
            with pytest.raises(tractor.RuntimeFailure, match="second root"):
                async with tractor.open_root_actor():
                    pytest.fail("two roots")
            assert await portal.run(ep_supervise.add, one=1) == 11
            await portal.cancel_actor()

    run(main)


def test_a_root_in_a_subactor_is_refused() -> None:
    async def main() -> None:
        async with one_daemon() as (_, portal):
            with pytest.raises(tractor.RemoteActorError) as info:
                await portal.run(ep_supervise.try_root)
            assert info.value.boxed_type is tractor.RuntimeFailure
            assert await portal.run(ep_supervise.nested_names) == ["daemon", "below"]
            await portal.cancel_actor()

    run(main)


def test_a_nursery_under_a_runtime_uses_it_and_warns_of_what_it_ignores(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(name="first") as actor:
            async with tractor.open_nursery(name="first", loglevel=actor.loglevel):
                assert tractor.current_actor() is actor
            assert "no effect" not in caplog.text
            async with tractor.open_nursery(name="second"):
                assert tractor.current_actor() is actor
            assert tractor.current_actor() is actor
            assert not actor.cancel_called

    with caplog.at_level(logging.WARNING, "tractor"):
        run(main)
    assert "name='second'" in caplog.text


# -- bad options --


def boot_error(expected: type[BaseException], **options: Any) -> str:
    """The text of the error with which the boot is refused."""

    async def main() -> str:
        with pytest.raises(expected) as info:
            async with tractor.open_root_actor(**options):
                pytest.fail("the root came up")
        return str(info.value)

    return run(main)


def test_unknown_transport() -> None:
    assert "'pigeon'" in boot_error(NotImplementedError, enable_transports=["pigeon"])


def test_no_transport_at_all() -> None:
    assert "enable_transports" in boot_error(ValueError, enable_transports=[])


def test_unknown_backend() -> None:
    text = boot_error(ValueError, start_method="pigeon")
    assert "'pigeon'" in text
    assert "'trio'" in text
    assert "'mp_spawn'" in text


@pytest.mark.parametrize("key", ["subint_fork", "subint_forkserver"])
def test_reserved_backends(key: str) -> None:
    assert key in boot_error(NotImplementedError, start_method=key)


def test_debug_mode_on_a_backend_that_has_none() -> None:
    supported = ["trio", "main_thread_forkserver"]
    unsupported: SpawnMethodKey = "mp_spawn"
    text = boot_error(RuntimeError, start_method=unsupported, debug_mode=True)
    assert unsupported in text
    for key in supported:
        assert key in text


@uds_only
@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (
            {"registry_addrs": [("127.0.0.1", 20001)], "enable_transports": ["uds"]},
            ["127.0.0.1", "20001", "uds"],
        ),
        (
            {"registry_addrs": [("/tmp", "registry.sock")], "enable_transports": ["tcp"]},
            ["registry.sock", "tcp"],
        ),
    ],
)
def test_address_of_a_transport_that_is_not_enabled(
    options: dict[str, Any], shown: list[str]
) -> None:
    text = boot_error(ValueError, **options)
    for word in ("registry_addrs", "enable_transports", *shown):
        assert word in text


@pytest.mark.parametrize(
    ("addr", "error"),
    [
        (("127.0.0.1", 0), ValueError),
        (("127.0.0.1", 70000), ValueError),
        (("224.0.0.1", 2000), ValueError),
        (("not a host!", 2000), ValueError),
        ("/ip4/nonsense", ValueError),
        (17, TypeError),
        (("127.0.0.1", 2000, 3), TypeError),
    ],
)
def test_addresses_that_cannot_be_used(addr: Any, error: type[Exception]) -> None:
    boot_error(error, registry_addrs=[addr])


def test_names_that_cannot_be_used() -> None:
    boot_error(TypeError, name="")
    boot_error(TypeError, name=5)
    boot_error(ValueError, name="\ud800")


def test_beyond_loopback_only_with_an_explicit_key() -> None:
    port = free_port()
    text = boot_error(
        tractor.RuntimeFailure,
        registry_addrs=[("127.0.0.1", port)],
        tpt_bind_addrs=[("0.0.0.0", port)],
    )
    assert "0.0.0.0" in text
    assert "authkey" in text
    assert "tls" in text


def test_a_short_key_is_refused() -> None:
    assert "16" in boot_error(
        ValueError, registry_addrs=[("127.0.0.1", free_port())], authkey=b"short"
    )


def test_max_frame_size_that_makes_no_sense() -> None:
    assert "max_frame_size" in boot_error(ValueError, max_frame_size=-1)


@pytest.mark.parametrize("under_a_root", [False, True])
def test_an_unknown_option_is_refused_always(under_a_root: bool) -> None:
    told = {
        "debug_mod": "'debug_mod' is no option of a root actor; did you mean 'debug_mode'?",
        "registry": "did you mean 'registr",
        "zzz": "there are arbiter_addr, authkey, ",
    }

    async def opens(name: str) -> None:
        async with tractor.open_nursery(**{name: True}):  # type: ignore[arg-type]
            raise AssertionError("not reached")

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            if under_a_root:
                await stack.enter_async_context(tractor.open_root_actor())
            for name, text in told.items():
                with pytest.raises(TypeError, match=re.escape(text)):
                    await opens(name)

    trio.run(main)
    with pytest.raises(TypeError, match="did you mean 'debug_mode'"):
        tractor.run_daemon([], debug_mod=True)


def test_the_options_that_are_handed_on_are_those_of_a_root() -> None:
    own = inspect.signature(tractor.open_root_actor).parameters
    handed_on = {n: hint.__forward_arg__ for n, hint in RootKwargs.__annotations__.items()}
    assert handed_on == {name: parameter.annotation for name, parameter in own.items()}


# -- the environment --


def test_environment_beats_the_arguments(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TRACTOR_LOGLEVEL", "warning")
    monkeypatch.setenv("TRACTOR_SPAWN_METHOD", "trio")
    monkeypatch.setenv("TRACTOR_MAX_FRAME_SIZE", "123456")
    before = process_state()

    async def main() -> None:
        async with one_daemon(
            loglevel="critical", start_method="no such backend", max_frame_size=2**20
        ) as (_, portal):
            assert tractor.current_actor().loglevel == "warning"
            assert ep_supervise.runtime_vars()["_max_frame_size"] == 123456
            told = await portal.run(ep_supervise.describe)
            assert told["loglevel"] == "warning"
            assert told["vars"]["_max_frame_size"] == 123456
            await portal.cancel_actor()

    run(main)
    assert "TRACTOR_LOGLEVEL" in caplog.text
    assert "TRACTOR_SPAWN_METHOD" in caplog.text
    assert process_state() == before
    for name in ("TRACTOR_LOGLEVEL", "TRACTOR_SPAWN_METHOD", "TRACTOR_MAX_FRAME_SIZE"):
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("TRACTOR_SPAWN_METHOD", "pigeon", ValueError),
        ("TRACTOR_MAX_FRAME_SIZE", "much", ValueError),
        ("TRACTOR_LOGLEVEL", "shouting", ValueError),
    ],
)
def test_nonsense_in_the_environment(name: str, value: str, error: type[Exception]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        assert value in boot_error(error)


def test_a_key_file_by_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"k" * 32)
    path.chmod(0o600)

    async def main() -> None:
        async with one_daemon(registry_addrs=[("127.0.0.1", free_port())]) as (_, portal):
            assert await portal.run(ep_supervise.add, one=1) == 11
            await portal.cancel_actor()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACTOR_AUTHKEY_FILE", str(path))
        run(main)
        path.chmod(0o644)
        assert str(path) in boot_error(Exception, registry_addrs=[("127.0.0.1", free_port())])


# -- the election --


def test_ensure_registry_where_nobody_is() -> None:
    async def main() -> None:
        async with tractor.open_root_actor(ensure_registry=True) as actor:
            assert actor.is_registrar

    run(main)


def test_a_second_program_finds_the_registrar(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            with program("root", spoken(reg_addr), "hold") as other:
                told = json.loads(await trio.to_thread.run_sync(other.read_line))
                assert not told["registrar"]
                assert told["reg"] == [list(reg_addr)]
                (addr,) = (wrap_address(tuple(a)) for a in told["accept"])
                own = wrap_address(reg_addr)
                assert addr.proto_key == own.proto_key
                assert addr.bindspace == own.bindspace
                assert addr != own
                table = await actor.get_registry()  # type: ignore[attr-defined]
                assert table[".".join(told["uid"])] == [addr.unwrap()]
                async with tractor.find_actor(told["uid"][0], raise_on_none=True) as portal:
                    assert isinstance(portal, tractor.Portal)
                    assert await portal.run(ep_supervise.add, one=2) == 12
                    assert await portal.cancel_actor()
                assert await trio.to_thread.run_sync(other.finish) == 0, other.stderr
                table = await actor.get_registry()  # type: ignore[attr-defined]
                assert set(table) == {".".join(actor.aid.uid)}

    run(main)


def test_ensure_registry_where_one_is(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            with program("root", spoken(reg_addr), "ensure") as other:
                told = json.loads(await trio.to_thread.run_sync(other.read_line))
                assert await trio.to_thread.run_sync(other.finish) == 0, other.stderr
        assert told["error"] == "RuntimeError"
        assert str(reg_addr[1]) in told["text"]
        assert "ensure_registry" in told["text"]

    run(main)


@contextlib.contextmanager
def listening(reg_addr: Any, reply: bytes) -> Iterator[None]:
    """A server that is none of ours: it accepts, says `reply` and waits for the end of the peer."""
    if isinstance(reg_addr[1], int):
        server = socket.create_server(reg_addr)
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(os.path.join(*reg_addr))
        server.listen()

    def serve() -> None:
        while True:
            try:
                conn, _ = server.accept()
            except OSError:
                return
            with conn, contextlib.suppress(OSError):
                if reply:
                    conn.sendall(reply)
                while conn.recv(4096):
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()
        if not isinstance(reg_addr[1], int):
            os.unlink(os.path.join(*reg_addr))


def test_an_address_taken_by_something_else(reg_addr: Any) -> None:
    with listening(reg_addr, b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        text = boot_error(RuntimeError, registry_addrs=[reg_addr])
    assert str(reg_addr[1]) in text
    run(boot_once, reg_addr)


def test_an_address_taken_by_something_mute() -> None:
    addr = ("127.0.0.1", free_port())
    with listening(addr, b""):
        assert str(addr[1]) in boot_error(RuntimeError, registry_addrs=[addr])


async def boot_once(addr: Any) -> None:
    async with tractor.open_root_actor(registry_addrs=[addr], ensure_registry=True):
        pass


def test_an_address_taken_by_an_actor_that_is_no_registrar(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor(
                "squatter",
                bind_addrs=[reg_addr],
                enable_transports=[wrap_address(reg_addr).proto_key],
            )
            with program("root", spoken(reg_addr)) as other:
                told = json.loads(await trio.to_thread.run_sync(other.read_line))
                await trio.to_thread.run_sync(other.finish)
            await portal.cancel_actor()
        assert told["error"] == "RuntimeError"
        assert "not a registrar" in told["text"]

    run(main)


@uds_only
def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    run(boot_once, (str(tmp_path), "stale.sock"))
    assert not path.exists()


def test_racing_roots_end_as_one_registrar_and_plain_roots(reg_addr: Any) -> None:
    racers = 4

    async def main() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with trio.open_nursery() as tn:
            others = [
                stack.enter_context(program("root", spoken(reg_addr), "hold"))
                for _ in range(racers)
            ]

            async def read(other: Any) -> None:
                found.append(json.loads(await trio.to_thread.run_sync(other.read_line)))

            for other in others:
                tn.start_soon(read, other)
        for other in others:
            other.process.send_signal(signal.SIGTERM)
        for other in others:
            assert await trio.to_thread.run_sync(other.finish) == -signal.SIGTERM, other.stderr
        return found

    with contextlib.ExitStack() as stack:
        told = run(main)
    assert [t.get("error") for t in told] == [None] * racers, told
    assert sorted(t["registrar"] for t in told) == [False] * (racers - 1) + [True]
    addrs = [tuple(a) for t in told for a in t["accept"]]
    assert len(set(addrs)) == racers
    assert {tuple(a) for t in told for a in t["reg"]} == {tuple(reg_addr)}


# -- the end of a root --


def test_an_error_of_the_block_leaves_as_itself() -> None:
    async def main(error: BaseException, opener: Callable[[], Any]) -> None:
        with pytest.raises(type(error)) as info:
            async with opener():
                raise error
        assert info.value is error

    for opener in (tractor.open_root_actor, tractor.open_nursery):
        run(main, ValueError("of the block"), opener)
        run(main, KeyboardInterrupt("of the block"), opener)
        run(main, SystemExit(3), opener)


def test_twenty_roots_in_a_row(reg_addr: Any) -> None:
    uuids = set()
    before = process_state()

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr], loglevel="critical") as actor:
            assert actor.is_registrar
            uuids.add(actor.aid.uuid)

    for _ in range(20):
        run(main)
        assert process_state() == before
    assert len(uuids) == 20


def test_roots_in_a_row_within_one_trio_run() -> None:
    async def main() -> None:
        for _ in range(3):
            async with one_daemon() as (_, portal):
                await portal.cancel_actor()

    run(main)


def test_a_root_can_be_opened_after_every_way_out_of_one() -> None:
    async def crash() -> None:
        async with one_daemon():
            raise LookupError

    async def cancelled() -> None:
        with trio.CancelScope() as scope:
            async with one_daemon():
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught

    async def cancels_itself() -> None:
        async with tractor.open_root_actor() as actor:
            actor.cancel_soon()
            await trio.sleep_forever()

    async def plain() -> None:
        async with tractor.open_root_actor(ensure_registry=True) as actor:
            assert actor.is_registrar

    with pytest.raises(LookupError):
        run(crash)
    run(plain)
    run(cancelled)
    run(plain)
    run(cancels_itself)
    run(plain)
    boot_error(ValueError, start_method="pigeon")
    run(plain)


def test_a_root_in_a_thread_that_is_not_the_main_one() -> None:
    results: list[Any] = []

    async def main() -> None:
        before = signal.getsignal(signal.SIGTERM)
        async with one_daemon() as (_, portal):
            assert signal.getsignal(signal.SIGTERM) is before
            results.append(await portal.run(ep_supervise.add, one=5))
            await portal.cancel_actor()

    thread = threading.Thread(target=run, args=(main,))
    thread.start()
    thread.join()
    assert results == [15]


# -- what importing the package does --


def in_fresh_interpreter(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_changes_nothing_and_loads_little() -> None:
    code = """
import json, logging, os, signal, sys
import trio                     # what trio itself does is not ours
def state():
    loggers = logging.Logger.manager.loggerDict
    return {
        "signals": [str(signal.getsignal(s)) for s in sorted(signal.valid_signals())],
        "hooks": [str(h) for h in (sys.breakpointhook, sys.excepthook, sys.displayhook,
                                   sys.unraisablehook)],
        "root handlers": [str(h) for h in logging.getLogger().handlers],
        "handlers": [n for n, l in loggers.items() if getattr(l, "handlers", None)],
        "environ": dict(os.environ),
        "run": str(trio.run), "path": list(sys.path),
    }
before = state()
import tractor
after = state()
heavy = "asyncio bidict colorlog multiaddr wrapt numpy pdbp readline argparse".split()
lately = [n for n in heavy if n in sys.modules]
print(json.dumps({"changed": [k for k in before if before[k] != after[k]], "loaded": lately}))
"""
    assert json.loads(in_fresh_interpreter(code)) == {"changed": [], "loaded": []}


def test_booting_loads_little_either() -> None:
    code = """
import sys, trio, tractor
async def main():
    async with tractor.open_nursery():
        pass
trio.run(main)
print([n for n in "asyncio bidict multiaddr wrapt numpy pdbp".split() if n in sys.modules])
"""
    assert in_fresh_interpreter(code) == "[]\n"


NAMES = {
    "open_root_actor",
    "open_nursery",
    "run_daemon",
    "open_actor_cluster",
    "ActorNursery",
    "Portal",
    "LocalPortal",
    "Context",
    "MsgStream",
    "Channel",
    "Actor",
    "Registrar",
    "Arbiter",
    "context",
    "stream",
    "get_registry",
    "find_actor",
    "wait_for_actor",
    "query_actor",
    "get_arbiter",
    "current_actor",
    "current_ipc_ctx",
    "is_root_process",
    "debug_mode",
    "get_runtime_vars",
    "RuntimeVars",
    "RuntimeFailure",
    "ActorFailure",
    "ActorTooSlowError",
    "InternalError",
    "NoRuntime",
    "NoResult",
    "MessagingError",
    "TransportClosed",
    "ModuleNotExposed",
    "RemoteActorError",
    "ContextCancelled",
    "MsgTypeError",
    "StreamOverrun",
    "AsyncioCancelled",
    "AsyncioTaskExited",
    "TrioCancelled",
    "TrioTaskExited",
    "DebugRequestError",
    "DebugStateError",
    "msg",
    "ipc",
    "discovery",
    "spawn",
    "trionics",
    "log",
    "testing",
}
"""The public names of the parts that exist."""


def test_every_public_name_is_listed_and_resolves() -> None:
    listed = set(dir(tractor))
    public = tractor.__all__  # type: ignore[attr-defined]
    assert NAMES <= set(public) <= listed
    for name in public:
        assert getattr(tractor, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        tractor.no_such_name  # type: ignore[attr-defined]  # noqa: B018


def test_import_star_gives_every_public_name() -> None:
    code = "from tractor import *\nimport tractor\nprint([n for n in tractor.__all__ if n not in globals()])"
    assert in_fresh_interpreter(code) == "[]\n"


def test_the_stable_paths_of_errors_and_helpers() -> None:
    import tractor._exceptions
    import tractor.testing

    assert tractor._testing is tractor.testing
    assert tractor._exceptions.ActorFailure is tractor.ActorFailure
