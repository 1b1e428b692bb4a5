"""Trees of real processes whose TCP is encrypted."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import ep_certs
import ep_tls
import msgspec
import pytest
import trio
from ep_marks import gets_signals
from ep_supervise_tools import run

import tractor
from tractor.ipc import HAS_UDS

pytestmark = pytest.mark.usefixtures("forked_actors")

REMOTE = "MsgpackTLSStream"


def tcp_addr() -> tuple[str, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return "127.0.0.1", port


def encrypted(**kwargs: Any) -> Any:
    return tractor.open_nursery(
        **{"registry_addrs": [tcp_addr()], "tls": ep_certs.config(), **kwargs}
    )


def test_every_connection_of_a_tree_is_encrypted() -> None:
    async def main() -> None:
        async with encrypted() as an:
            one = await an.start_actor("one", enable_modules=["ep_tls"])
            two = await an.start_actor("two", enable_modules=["ep_tls"])
            for said in (await one.run(ep_tls.about), await one.run(ep_tls.below)):
                assert said["parent"] == REMOTE
                assert said["listens"] == ["tcp"]
                assert said["certfile"] == ep_certs.config().certfile
                assert said["certfile"] not in said["visible"]
            assert await one.run(ep_tls.road_to, name="two") == REMOTE
            assert await two.run(ep_tls.road_to, name="one") == REMOTE
            assert type(one.chan.transport).__name__ == REMOTE
            await an.cancel()

    run(main)


@pytest.mark.parametrize("size", [1, 1 << 20, 1 << 24])
def test_streams_of_any_size(size: int) -> None:
    payload = os.urandom(size)

    async def main() -> None:
        async with encrypted() as an:
            portal = await an.start_actor("echo", enable_modules=["ep_tls"])
            async with portal.open_context(ep_tls.echo) as (ctx, _):
                async with ctx.open_stream(backpressure=True) as stream:
                    for _ in range(3):
                        await stream.send(payload)
                    for _ in range(3):
                        assert await stream.receive() == payload
                assert await ctx.wait_for_result() == 3
            await an.cancel()

    run(main)


def test_many_small_messages_both_ways() -> None:
    async def main() -> None:
        async with encrypted() as an:
            portal = await an.start_actor("echo", enable_modules=["ep_tls"])
            async with (
                portal.open_context(ep_tls.echo) as (ctx, _),
                ctx.open_stream(backpressure=True) as stream,
                trio.open_nursery() as tn,
            ):

                async def feed() -> None:
                    for n in range(5_000):
                        await stream.send(n)

                tn.start_soon(feed)
                assert [await stream.receive() for _ in range(5_000)] == list(range(5_000))
            await an.cancel()

    run(main)


def test_a_cancelled_call_leaves_the_channel_whole() -> None:
    async def main() -> None:
        async with encrypted() as an:
            portal = await an.start_actor("echo", enable_modules=["ep_tls"])
            for _ in range(3):
                with trio.move_on_after(0.02):
                    async with (
                        portal.open_context(ep_tls.echo) as (ctx, _),
                        ctx.open_stream(backpressure=True) as stream,
                    ):
                        while True:
                            await stream.send(b"z" * 500_000)
            assert (await portal.run(ep_tls.about))["parent"] == REMOTE
            await an.cancel()

    run(main)


@gets_signals
def test_a_child_that_dies_is_a_lost_peer() -> None:
    async def main() -> None:
        async with encrypted() as an:
            portal = await an.start_actor("victim", enable_modules=["ep_tls"])
            with pytest.raises(tractor.TransportClosed):
                await portal.run(ep_tls.die)
            await trio.sleep_forever()

    with pytest.raises(tractor.ActorFailure, match="7"):
        run(main)


def test_a_tree_that_listens_beyond_loopback_without_an_explicit_key() -> None:
    _, port = tcp_addr()

    async def main() -> None:
        async with encrypted(
            registry_addrs=[("127.0.0.1", port)], tpt_bind_addrs=[("0.0.0.0", 0)]
        ) as an:
            portal = await an.start_actor(
                "wide", enable_modules=["ep_tls"], bind_addrs=[("0.0.0.0", 0)]
            )
            assert (await portal.run(ep_tls.about))["parent"] == REMOTE
            async with tractor.find_actor("wide") as found:
                assert found is not None
            await an.cancel()

    run(main)


@pytest.mark.skipif(not HAS_UDS, reason="no Unix sockets")
def test_children_over_unix_sockets_still_have_the_certificates(private_dir: Path) -> None:
    async def main() -> None:
        async with encrypted(registry_addrs=[(str(private_dir), "tls-reg.sock"), tcp_addr()]) as an:
            portal = await an.start_actor("both", enable_modules=["ep_tls"])
            said = await portal.run(ep_tls.about)
            assert said["parent"] == "MsgpackUDSStream"
            assert sorted(said["listens"]) == ["tcp", "uds"]
            only = await an.start_actor(
                "only", enable_modules=["ep_tls"], enable_transports=["tcp"]
            )
            assert (await only.run(ep_tls.about))["parent"] == REMOTE
            await an.cancel()

    run(main)


@pytest.mark.skipon_spawn_backend(
    "main_thread_forkserver", "mp_forkserver", "subint", reason="a child's `cwd` is its parent's"
)
def test_relative_paths_hold_in_a_child_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = ep_certs.config()
    assert given.cafile is not None
    directory = Path(given.certfile).parent
    monkeypatch.chdir(directory)
    certfile, keyfile, cafile = (
        Path(path).name for path in (given.certfile, given.keyfile, given.cafile)
    )
    relative = tractor.TLSConfig(certfile, keyfile, cafile)

    async def main() -> None:
        async with encrypted(tls=relative, start_method="trio") as an:
            portal = await an.start_actor(
                "away", enable_modules=["ep_tls"], proc_kwargs={"cwd": str(tmp_path)}
            )
            assert (await portal.run(ep_tls.about))["certfile"] == given.certfile
            await an.cancel()

    run(main)


# -- other programs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tls",
    [None, ep_certs.config(trusts="theirs"), ep_certs.config(signed_by="theirs", trusts="ours")],
    ids=["plain", "trusts another authority", "of another authority"],
)
def test_a_program_that_does_not_belong_finds_the_address_taken(tls: Any, tmp_path: Path) -> None:
    addr = tcp_addr()
    given = (None, None, None) if tls is None else (tls.certfile, tls.keyfile, tls.cafile)
    script = tmp_path / "other.py"
    script.write_text(
        "import trio, tractor\n"
        f"given = {given!r}\n"
        "tls = tractor.TLSConfig(*given) if given[0] else None\n"
        "async def main():\n"
        "    try:\n"
        f"        async with tractor.open_root_actor(registry_addrs=[{addr!r}], tls=tls): pass\n"
        "    except RuntimeError as exc:\n"
        "        print(exc)\n"
        "trio.run(main)\n"
    )

    async def main() -> None:
        async with encrypted(registry_addrs=[addr]) as an:
            portal = await an.start_actor("one", enable_modules=["ep_tls"])
            done = await trio.run_process([sys.executable, str(script)], capture_stdout=True)
            assert b"are taken by something that is not a registrar" in done.stdout
            assert (await portal.run(ep_tls.about))["parent"] == REMOTE
            await an.cancel()

    run(main)


# -- boot errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["certfile", "keyfile", "cafile"])
def test_a_missing_file_stops_the_root_before_it_binds(name: str, tmp_path: Path) -> None:
    addr = tcp_addr()
    tls = msgspec.structs.replace(ep_certs.config(), **{name: str(tmp_path / "gone.pem")})

    async def main() -> None:
        with pytest.raises(FileNotFoundError, match=rf"TLSConfig.{name}.*gone\.pem"):
            async with encrypted(registry_addrs=[addr], tls=tls):
                raise AssertionError("it was opened")
        # Free, and of no effect on the next one.
        async with encrypted(registry_addrs=[addr]):
            pass

    run(main)


def test_what_is_no_configuration_is_a_type_error() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=r"tractor\.TLSConfig\(certfile"):
            async with encrypted(tls=("cert", "key", "ca")):
                raise AssertionError("it was opened")

    run(main)


def test_the_next_root_is_plain_again() -> None:
    async def main() -> None:
        async with encrypted():
            pass
        async with encrypted(tls=None) as an:
            portal = await an.start_actor("plain", enable_modules=["ep_tls"])
            said = await portal.run(ep_tls.about)
            assert said["parent"] == "MsgpackTCPStream"
            assert said["certfile"] is None
            await an.cancel()

    run(main)
