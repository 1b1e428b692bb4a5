"""`tractor run` over real processes: conformance cases 62 to 69, and what else its users count on."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ep_manager_tools import LIMIT, ask, control_socks_of, notify_socket, running
from ep_manager_tools import run_dir as run_dir

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a manager of Linux's processes")

QUICK = "[supervisor]\nbackoff = { initial = 0.05, maximum = 0.3 }\n"

BASIC = """
import os, sys, time, json
import trio
import tractor

async def serve(what="x"):
    print(f"{what} is up, pid {os.getpid()}")
    await trio.sleep_forever()

async def once(seconds=0.0, error=False):
    await trio.sleep(seconds)
    if error:
        raise ValueError("on purpose")

@tractor.context
async def talk(ctx):
    await ctx.started(1)
    await trio.sleep_forever()
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A directory with a module of services."""
    (tmp_path / "shop.py").write_text(BASIC)
    return tmp_path


def _service(name: str, what: str = "x", more: str = "") -> str:
    return f'[services.{name}]\ncall = "shop:serve"\nargs = {{ what = "{what}" }}\n{more}\n'


def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


# -- reload -------------------------------------------------------------------------------------------


def test_a_reload_touches_only_what_differs(shop: Path) -> None:
    first = _service("same") + _service("differs", "one") + _service("gone")
    second = _service("same") + _service("differs", "two") + _service("new")
    with running(shop, first) as run:
        pids = {name: run.pid_of(name) for name in ("same", "differs", "gone")}
        run.wait_for("is up", 3)
        (shop / "x.toml").write_text(second)
        told = ask(["reload", "--manager", str(run.process.pid)])
        assert (told.returncode, told.stdout) == (0, "new: new; gone: gone; changed: differs\n")
        services = run.services()
        assert list(services) == ["same", "differs", "new"]
        assert services["same"]["pid"] == pids["same"]
        assert services["differs"]["incarnation"] == 2
        assert _is_gone(pids["gone"])
        run.wait_for("differs | two is up")
        # What changes nothing, by signal.
        run.send(signal.SIGHUP)
        told = ask(["reload", "--manager", str(run.process.pid), "--json"])
        asked = json.loads(told.stdout)["asked"]
        assert asked == {"new": [], "gone": [], "changed": [], "settings": []}
        after = run.services()
        assert {n: s["pid"] for n, s in after.items()} == {n: s["pid"] for n, s in services.items()}
        assert run.end() == 0


def test_a_wrong_file_changes_nothing(shop: Path) -> None:
    with running(shop, _service("a")) as run:
        pid = run.pid_of("a")
        (shop / "x.toml").write_text(_service("a", "other") + '[services.b]\ncall = "nonsense"\n')
        told = ask(["reload", "--manager", str(run.process.pid)])
        assert told.returncode == 1
        assert 'x.toml:6: [services.b] call = "nonsense"' in told.stderr
        run.wait_for("nothing was reloaded")
        (shop / "x.toml").write_text("[supervisor]\nname = 'renamed'\n" + _service("a"))
        told = ask(["reload", "--manager", str(run.process.pid)])
        assert told.returncode == 1
        assert "only a new start of the manager can change that" in told.stderr
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            (shop / "x.toml").write_text(
                _service("a", "other", f'listen = {{ x = "/ip4/127.0.0.1/tcp/{port}" }}')
            )
            told = ask(["reload", "--manager", str(run.process.pid)])
            assert told.returncode == 1
            assert "in use" in told.stderr
        assert run.pid_of("a") == pid
        assert run.services()["a"]["restarts"] == 0


def test_what_a_reload_broke_the_next_one_mends(shop: Path) -> None:
    (shop / "slow.py").write_text("async def start():\n    pass\nwhile True: pass\n")
    with running(shop, QUICK + _service("a")) as run:
        run.pid_of("a")
        (shop / "x.toml").write_text(QUICK + '[services.a]\ncall = "slow:start"\nshutdown = 0.5\n')
        run.send(signal.SIGHUP)
        run.wait_until(lambda: run.services().get("a", {}).get("state") == "starting")
        (shop / "x.toml").write_text(QUICK + _service("a", "mended"))
        run.send(signal.SIGHUP)
        run.wait_for("a | mended is up")


def test_ten_reloads_in_a_row_end_at_the_last_file(shop: Path) -> None:
    with notify_socket(shop / "n") as (path, told):
        env = {"NOTIFY_SOCKET": path}
        with running(shop, _service("a", "0") + _service("same"), env=env) as run:
            run.wait_until(lambda: any("READY" in one for one in told))
            same = run.pid_of("same")
            for i in range(1, 11):
                more = _service(f"extra_{i}") if i % 2 else "nonsense ="
                if i == 10:
                    more = _service("last")
                (shop / "new").write_text(_service("a", f"number {i}") + _service("same") + more)
                # As editors do it, so that no half of a file is read.
                (shop / "new").rename(shop / "x.toml")
                run.send(signal.SIGHUP)
            run.wait_for("a | number 10 is up")
            run.wait_until(lambda: list(run.services()) == ["a", "same", "last"])
            run.wait_until(lambda: all(s["state"] == "ready" for s in run.services().values()))
            # The last reload was told to be over; what has still to start is told after that.
            latest = max(i for i, one in enumerate(told) if "RELOADING" in one)
            run.wait_until(lambda: any("READY" in one for one in told[latest:]), "READY=1")
            assert run.pid_of("same") == same
            pids = {run.pid_of(name) for name in ("a", "same", "last")}
            # Besides these there may be the sentinel; none is left of those that came and went.
            assert len(set(_children(run.process.pid)) - pids) <= 1


def test_a_manager_that_is_killed_leaves_nothing(shop: Path) -> None:
    text = _service("a") + _service("b") + _service("c", more="replicas = 2")
    with running(shop, text) as run:
        pids = [run.pid_of(name) for name in ("a", "b", "c.0", "c.1")]
        (path,) = control_socks_of(run.process.pid)
        run.send(signal.SIGKILL)
        assert run.status() == -signal.SIGKILL
        run.wait_until(lambda: all(map(_is_gone, pids)), "the end of all services")
        run.wait_until(lambda: not path.exists(), "the end of the socket's file")


def test_the_strategy_takes_each_once(shop: Path) -> None:
    def text(what: str) -> str:
        strategy = '[supervisor]\nstrategy = "rest_for_one"\n'
        return strategy + "".join(_service(n, what if n in "bd" else "x") for n in "abcd")

    with running(shop, text("one")) as run:
        run.wait_for("is up", 4)
        (shop / "x.toml").write_text(text("two"))
        assert ask(["reload", "--manager", str(run.process.pid)]).returncode == 0
        assert {n: s["incarnation"] for n, s in run.services().items()} == {
            "a": 1,
            "b": 2,
            "c": 2,
            "d": 2,
        }
        told = ask(["restart", "c", "--manager", str(run.process.pid)])
        assert (told.returncode, told.stdout) == (0, "restart c, and with it d\n")


def test_another_number_of_replicas(shop: Path) -> None:
    with running(shop, _service("a", more="replicas = 1") + _service("b")) as run:
        run.pid_of("a")
        b = run.pid_of("b")
        (shop / "x.toml").write_text(_service("a", more="replicas = 3") + _service("b"))
        assert ask(["reload", "--manager", str(run.process.pid)]).returncode == 0
        assert list(run.services()) == ["a.0", "a.1", "a.2", "b"]
        assert run.pid_of("b") == b
        told = ask(["services", "--manager", str(run.process.pid)])
        assert [line.split()[0] for line in told.stdout.splitlines()[2:]] == [
            "a",
            "a.0",
            "a.1",
            "a.2",
            "b",
        ]


# -- starts and ends ----------------------------------------------------------------------------------


def test_a_module_with_an_error_is_retried_until_it_is_repaired(shop: Path) -> None:
    (shop / "bad.py").write_text("async def start(:\n")
    text = (
        QUICK
        + '[services.bad]\ncall = "bad:start"\n[services.worse]\nmodules = ["bad"]\n'
        + _service("good")
    )
    with (
        notify_socket(shop / "n") as (path, told),
        running(shop, text, env={"NOTIFY_SOCKET": path}) as run,
    ):
        run.wait_for("good | x is up")
        run.wait_until(lambda: run.services().get("bad", {}).get("restarts", 0) >= 2)
        run.wait_until(lambda: run.services().get("worse", {}).get("restarts", 0) >= 2)
        assert "SyntaxError" in run.services()["bad"]["error"]
        assert not any("READY" in one for one in told)
        assert any("STATUS" in one for one in told)
        (shop / "bad.py").write_text(BASIC + "start = serve\n")
        run.wait_until(lambda: any("READY" in one for one in told), "READY=1")
        assert {s["state"] for s in run.services().values()} == {"ready"}
        assert run.services()["good"]["restarts"] == 0


def test_one_waits_until_what_it_comes_after_has_ended(shop: Path) -> None:
    (shop / "db.py").write_text(
        "import os, trio\n"
        "async def migrate():\n"
        "    with open('tries', 'a') as file: file.write('x')\n"
        "    if os.path.getsize('tries') < 3: raise ValueError('not yet')\n"
        "    await trio.sleep(0.3)\n"
    )
    text = QUICK.replace("\n", '\nloglevel = "info"\n', 1) + _service(
        "api", more='after = ["migrate"]'
    )
    text += '[services.migrate]\ncall = "db:migrate"\nrestart = "transient"\n'
    with running(shop, text) as run:
        run.wait_for("api | x is up")
        events = [line.partition("service '")[2] for line in run.lines if "service '" in line]
        ended = events.index("migrate', incarnation 3: ended")
        assert events.index("api', incarnation 1: starting") > ended
        assert sum("migrate', incarnation" in e and "crashed" in e for e in events) == 2


def test_exit_statuses(shop: Path) -> None:
    def once(more: str) -> str:
        return f'[services.a]\ncall = "shop:once"\n{more}\n'

    with running(shop, once('restart = "transient"')) as run:
        assert run.status() == 0
    with running(shop, once('restart = "temporary"\nargs = { error = true }')) as run:
        assert run.status() == 1
        assert "on purpose" in run.text
    limit = "[supervisor]\nmax_restarts = 1\nbackoff = false\n"
    with running(shop, limit + once("args = { error = true }") + _service("b")) as run:
        assert run.status() == 1
        assert "given up" in run.text
    with running(shop, once("restat = 5")) as run:
        assert run.status() == 2
        assert "did you mean 'restart'?" in run.text
    with running(
        shop, _service("a"), env={"TRACTOR_SPAWN_METHOD": "main_thread_forkserver"}
    ) as run:
        assert run.status() == 2
        assert "the spawn backend must be one of 'trio'" in run.text


def test_the_first_signal_stops_in_order_and_the_second_kills(shop: Path) -> None:
    (shop / "deaf.py").write_text(
        "import trio, os\n"
        "async def start():\n"
        "    print('deaf', os.getpid())\n"
        "    with trio.CancelScope(shield=True):\n"
        "        await trio.sleep_forever()\n"
    )
    with running(shop, _service("a") + _service("b") + _service("c")) as run:
        pids = [run.pid_of(name) for name in "abc"]
        run.wait_for("is up", 3)
        assert run.end(signal.SIGINT) == 0
        assert all(map(_is_gone, pids))
    with running(shop, '[services.deaf]\ncall = "deaf:start"\nshutdown = 60\n') as run:
        run.wait_for("deaf | deaf")
        pid = run.pid_of("deaf")
        run.send(signal.SIGTERM)
        run.wait_until(lambda: run.services()["deaf"]["state"] == "stopping")
        begin = time.monotonic()
        assert run.end(signal.SIGTERM) == 128 + signal.SIGTERM
        assert time.monotonic() - begin < 20
        assert _is_gone(pid)


def test_a_signal_while_it_starts(shop: Path) -> None:
    (shop / "slow.py").write_text("import time\ntime.sleep(60)\n")
    with running(
        shop, '[services.slow]\nmodules = ["slow"]\nshutdown = 0.2\n' + _service("b")
    ) as run:
        pid = run.wait_until(lambda: run.services().get("slow", {}).get("pid"))
        assert run.end() == 0
        assert _is_gone(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_keeps_the_order(shop: Path, number: int) -> None:
    # As ctrl-c at a terminal, and systemd with KillMode=control-group.
    text = '[supervisor]\nloglevel = "info"\n' + _service("a") + _service("b") + _service("c")
    with running(shop, text, start_new_session=True) as run:
        run.wait_for("is up", 3)
        run.wait_until(lambda: [s["state"] for s in run.services().values()] == ["ready"] * 3)
        os.killpg(run.process.pid, number)
        assert run.status() == 0
        events = re.findall(r"service '(\w)', incarnation 1: (\w+)", run.text)
    assert [
        event for event in events if event[1] in ("stopping", "stopped", "ended", "crashed")
    ] == [(name, what) for name in "cba" for what in ("stopping", "stopped")]


@pytest.mark.parametrize("ends_by_itself", [True, False])
def test_a_hangup_while_all_ends_changes_no_exit_status(shop: Path, ends_by_itself: bool) -> None:
    call = 'call = "shop:once"\nrestart = "transient"\n' if ends_by_itself else ""
    text = f"[services.a]\n{call}" if call else _service("a")
    with running(shop, text) as run:
        run.wait_until_it_takes(signal.SIGHUP)
        if not ends_by_itself:
            run.wait_for("is up")
            run.send(signal.SIGTERM)
        # To the very end of the interpreter.
        while run.process.poll() is None:
            run.send(signal.SIGHUP)
            time.sleep(0.002)
        assert run.status() == 0


@pytest.mark.parametrize("delay", [0, 0.02, 0.25, 0.5, 0.9])
def test_a_signal_at_any_time_is_an_end_in_order(shop: Path, delay: float) -> None:
    text = _service("a") + _service("b", more='after = ["a"]')
    with running(shop, text, start_new_session=True) as run:
        run.wait_until_it_takes(signal.SIGTERM)
        # When it comes is left to chance: whatever the manager does by then.
        time.sleep(delay)
        assert run.end() == 0
        left = subprocess.run(
            ["pgrep", "-g", str(run.process.pid)], capture_output=True, check=False
        )
        assert left.stdout == b""


# -- output -------------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_a_terminal_that_stands_still_blocks_no_service(shop: Path) -> None:
    size = 100_000_000
    (shop / "noisy.py").write_text(
        "import os, time, trio\n"
        "async def start(size):\n"
        "    worst = 0\n"
        "    data = b'x' * 100_000\n"
        "    for _ in range(size // len(data)):\n"
        "        begin = time.monotonic()\n"
        "        os.write(1, data)\n"
        "        worst = max(worst, time.monotonic() - begin)\n"
        "    open('worst', 'w').write(str(worst))\n"
        "    await trio.sleep_forever()\n"
    )
    (shop / "x.toml").write_text(
        f'[services.noisy]\ncall = "noisy:start"\nargs = {{ size = {size} }}\n'
    )
    read_fd, write_fd = os.pipe()
    manager = subprocess.Popen(
        [sys.executable, "-m", "tractor", "run", "x.toml"],
        cwd=shop,
        stdin=subprocess.DEVNULL,
        stdout=write_fd,
    )
    try:
        os.close(write_fd)
        deadline = time.monotonic() + 120
        while not (shop / "worst").exists():
            assert time.monotonic() < deadline
            assert manager.poll() is None
            time.sleep(0.05)
        status = Path(f"/proc/{manager.pid}/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0])
        assert peak < 90_000
        manager.terminate()
        found = bytearray()
        while data := os.read(read_fd, 65536):
            found += data
        assert manager.wait(LIMIT) == 0
    finally:
        manager.kill()
        manager.wait()
        os.close(read_fd)
    lines = found.decode().splitlines()
    assert all(line.startswith("noisy | ") and line.count(" | ") == 1 for line in lines)
    notes = [line for line in lines if "dropped" in line]
    dropped = sum(int(note.split()[3]) for note in notes)
    printed = sum(len(line) - 8 for line in lines if line not in notes)
    # In pieces of 16 KiB each.
    assert dropped > 4000
    assert abs(printed + dropped * 16384 - size) < 16384 * 3


def test_lines_as_json(shop: Path) -> None:
    (shop / "says.py").write_text(
        "import sys\nasync def start():\n    print('\"hé\"')\n    print('two', file=sys.stderr)\n"
    )
    text = '[services.s]\ncall = "says:start"\nrestart = "transient"\n'
    with running(shop, text, argv=["--json"]) as run:
        assert run.status() == 0
        said = [json.loads(line) for line in run.lines if line.startswith("{")]
    assert said == [{"service": "s", "line": '"hé"'}, {"service": "s", "line": "two"}]


# -- sockets ------------------------------------------------------------------------------------------

WEB = """
import trio, tractor

async def serve(greeting="hello"):
    sock = tractor.inherited_sockets()["http"]
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))

    async def answer(stream):
        await stream.send_all(greeting.encode())
        await stream.aclose()

    await trio.serve_listeners(answer, [listener])
"""


def test_no_connection_is_refused_while_a_service_comes_and_goes(shop: Path) -> None:
    (shop / "web.py").write_text(WEB)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def text(greeting: str) -> str:
        return (
            QUICK
            + f'[services.web]\ncall = "web:serve"\nargs = {{ greeting = "{greeting}" }}\n'
            + f'listen = {{ http = "/ip4/127.0.0.1/tcp/{port}" }}\n'
        )

    refused: list[OSError] = []
    answers: list[bytes] = []
    stop = threading.Event()

    def call_again_and_again() -> None:
        while not stop.wait(0.01):
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
                    answers.append(sock.recv(100))
            except ConnectionRefusedError as exc:
                refused.append(exc)
            except ConnectionError:
                # It was accepted by the process that was killed.
                answers.append(b"reset")

    with running(shop, text("one")) as run:
        pid = run.pid_of("web")
        client = threading.Thread(target=call_again_and_again)
        client.start()
        try:
            run.wait_until(lambda: answers.count(b"one") > 5)
            os.kill(pid, signal.SIGKILL)
            seen = len(answers)
            run.wait_until(lambda: answers[seen + 5 :].count(b"one") > 5)
            assert ask(["restart", "web", "--manager", str(run.process.pid)]).returncode == 0
            (shop / "x.toml").write_text(text("two"))
            assert ask(["reload", "--manager", str(run.process.pid)]).returncode == 0
            run.wait_until(lambda: answers.count(b"two") > 5)
        finally:
            stop.set()
            client.join()
        assert run.end() == 0
    assert not refused
    assert answers.count(b"reset") + answers.count(b"") <= 3
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_socket_that_systemd_hands_down(shop: Path) -> None:
    (shop / "web.py").write_text(WEB)
    text = '[services.web]\ncall = "web:serve"\nlisten = { http = "/ip4/127.0.0.1/tcp/1" }\n'
    with socket.create_server(("127.0.0.1", 0)) as sock:
        name = sock.getsockname()
        # As systemd does it: from descriptor 3 on, for the process that it starts.
        shell = 'exec 3<&"$1"; shift; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec "$@"'
        with running(
            shop,
            text,
            before=["bash", "-c", shell, "bash", str(sock.fileno())],
            pass_fds=[sock.fileno()],
        ) as run:
            sock.close()
            run.pid_of("web")
            with socket.create_connection(name, timeout=LIMIT) as client:
                assert client.recv(100) == b"hello"


# -- what a service is born with ----------------------------------------------------------------------

TELLS = """
import json, os, resource, sys
import tractor

async def tell():
    found = {
        "env": dict(os.environ), "cwd": os.getcwd(), "uid": os.getuid(), "groups": os.getgroups(),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE), "core": resource.getrlimit(resource.RLIMIT_CORE),
        "stdin": os.read(0, 10).decode(), "path": sys.path, "argv": sys.argv, "fds": os.listdir("/proc/self/fd"),
        "log": tractor.current_actor().loglevel,
        "cmdline": open("/proc/self/cmdline").read(),
    }
    import extra_module
    print("TOLD" + json.dumps(found))
"""


def _told(lines: list[str]) -> Any:
    (line,) = [line for line in lines if line.startswith("TOLD")]
    return json.loads(line.removeprefix("TOLD"))


def test_what_a_service_is_born_with(shop: Path) -> None:
    (shop / "tells.py").write_text(TELLS)
    (shop / "lib").mkdir()
    (shop / "lib" / "extra_module.py").touch()
    (shop / "sub").mkdir()
    text = (
        '[services.t]\ncall = "tells:tell"\nrestart = "transient"\ncwd = "sub"\nlog = "info"\n'
        "limits = { nofile = 200, core = 0 }\n"
        'env = { SECRET = "${FROM_OUTSIDE}-s3cret", PYTHONPATH = "../lib" }\n'
        '[supervisor]\nloglevel = "debug"\n'
    )
    given = {
        "FROM_OUTSIDE": "0utside",
        "NOTIFY_SOCKET": str(shop / "nobody"),
        "WATCHDOG_USEC": "60000000",
        "LISTEN_FDS": "0",
        "LISTEN_PID": "1",
    }
    with running(shop, text, env=given) as run:
        assert run.status() == 0
        told = _told(run.of("t"))
        others = [line for line in run.lines if "TOLD" not in line]
    assert told["env"]["SECRET"] == "0utside-s3cret"
    assert not told["env"].keys() & (given.keys() - {"FROM_OUTSIDE"})
    assert not any("s3cret" in line for line in [*others, told["cmdline"], *told["argv"]])
    assert told["cwd"] == str(shop / "sub")
    assert told["nofile"] == [200, 200]
    assert told["core"] == [0, 0]
    assert (told["stdin"], told["log"]) == ("", "info")
    assert told["path"][0] == str(shop / "lib")
    assert str(shop) in told["path"]


def test_values_of_env_are_not_in_what_the_commands_show(shop: Path) -> None:
    text = _service("a", more='env = { PW = "s3cret" }') + (
        '[services.b]\ncall = "shop:once"\nargs = { error = true }\nenv = { PW = "s3cret" }\n'
    )
    with running(shop, QUICK + text) as run:
        run.pid_of("a")
        run.wait_until(lambda: run.services()["b"]["restarts"] > 1)
        for argv in (["services"], ["reload"]):
            told = ask([*argv, "--manager", str(run.process.pid)])
            assert "s3cret" not in told.stdout + told.stderr
        assert "s3cret" not in str(run.services())
        for pid in (run.process.pid, run.pid_of("a")):
            assert "s3cret" not in Path(f"/proc/{pid}/cmdline").read_text()
        assert "s3cret" not in run.text


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can start others' processes")
def test_a_service_of_another_user(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        _run_as_nobody(Path(name), tmp_path / "key")


def _run_as_nobody(shop: Path, key: Path) -> None:
    shop.chmod(0o755)
    (shop / "tells.py").write_text(TELLS)
    (shop / "extra_module.py").touch()
    text = (
        '[supervisor]\ntransports = ["tcp"]\nregistry = ["/ip4/127.0.0.1/tcp/%d"]\n'
        '[services.t]\ncall = "tells:tell"\nrestart = "transient"\nuser = "nobody"\n'
    )
    python = _python_for_all()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    key.write_bytes(os.urandom(32).hex().encode())
    key.chmod(0o600)
    env = {
        "TRACTOR_AUTHKEY_FILE": str(key),
        "PYTHONPATH": os.pathsep.join(
            path for path in sys.path if not path.startswith(sys.base_prefix)
        ),
    }
    with running(shop, text % port, env=env, python=python) as run:
        assert run.status() == 0, run.text
        told = _told(run.of("t"))
    nobody = pwd.getpwnam("nobody")
    assert (told["uid"], told["groups"]) == (nobody.pw_uid, [nobody.pw_gid])
    assert (told["env"]["USER"], told["env"]["HOME"]) == ("nobody", nobody.pw_dir)


def _python_for_all() -> str:
    """An interpreter like this one that every user may run."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        real = Path(path).resolve()
        if real.exists() and all(one.stat().st_mode & 0o001 for one in (real, *real.parents)):
            return path
    pytest.skip("there is no interpreter that another user may run")


def test_a_limit_that_is_too_high_is_a_failed_start(shop: Path) -> None:
    # More than the kernel lets even root have.
    text = _service("a", more=f'limits = {{ nofile = {2**31 - 1} }}\nrestart = "temporary"')
    with running(shop, text) as run:
        assert run.status() == 1
        assert "the limit 'nofile' can't be set" in run.text


# -- systemd, containers ------------------------------------------------------------------------------


def test_systemd_is_told(shop: Path) -> None:
    env = {"WATCHDOG_USEC": "400000"}
    with notify_socket(shop / "n") as (path, told):
        env["NOTIFY_SOCKET"] = path
        with running(shop, _service("a"), env=env) as run:
            run.wait_until(lambda: any("READY" in one for one in told))
            run.wait_until(lambda: sum("WATCHDOG" in one for one in told) > 3)
            seen = len(told)
            (shop / "x.toml").write_text("nonsense")
            run.send(signal.SIGHUP)
            run.wait_until(lambda: any("READY" in one for one in told[seen:]))
            begun = [one for one in told[seen:] if "RELOADING" in one]
            assert len(begun) == 1
            assert begun[0]["MONOTONIC_USEC"].isdecimal()
            assert run.end() == 0
        stopping = [one for one in told if "STOPPING" in one]
        assert stopping
        assert all(int(one["EXTEND_TIMEOUT_USEC"]) > 1_000_000 for one in stopping)


def test_the_watchdog_is_not_fed_while_the_loop_stands_still(shop: Path) -> None:
    with notify_socket(shop / "n") as (path, told):
        env = {"WATCHDOG_USEC": "200000", "NOTIFY_SOCKET": path}
        with running(shop, _service("a"), env=env) as run:
            run.wait_until(lambda: sum("WATCHDOG" in one for one in told) > 3)
            run.send(signal.SIGSTOP)
            try:
                time.sleep(0.3)
                seen = len(told)
                time.sleep(1)
                assert len(told) == seen
            finally:
                run.send(signal.SIGCONT)
            run.wait_until(lambda: len(told) > seen + 2)


ORPHANS = """
import os, time, trio

async def breed():
    for _ in range(3):
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(0.2)
            os._exit(0)
        os.wait()
    print("bred")
    await trio.sleep_forever()
"""


@pytest.mark.skipif(
    shutil.which("unshare") is None or os.geteuid() != 0, reason="needs a pid namespace"
)
def test_as_the_first_process_it_reaps_strangers(shop: Path, run_dir: Path) -> None:
    (shop / "orphans.py").write_text(ORPHANS)
    text = '[services.o]\ncall = "orphans:breed"\n' + _service("a")
    before = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespaces here")
    env = {"XDG_RUNTIME_DIR": str(run_dir)}
    with running(shop, text, before=before, env=env) as run:
        run.wait_for("o | bred")
        run.wait_for("a | x is up")
        (first,) = _children(run.process.pid)
        run.wait_until(lambda: not any(map(_is_zombie, _below(first))), "no zombie")
        # The manager is below the first process, and so are the services.
        manager = max(_children(first), key=lambda pid: len(_children(pid)))
        assert len(_children(manager)) >= 2
        # Three were orphans for a moment, and are gone.
        time.sleep(0.5)
        assert not any(map(_is_zombie, _below(first)))
        os.kill(first, signal.SIGTERM)
        assert run.status() == 0


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _below(pid: int) -> list[int]:
    found = _children(pid)
    return [*found, *(other for one in found for other in _below(one))]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


# -- commands -----------------------------------------------------------------------------------------


def test_stop_start_and_restart(shop: Path) -> None:
    with running(shop, _service("a") + _service("b")) as run:
        manager = ["--manager", str(run.process.pid)]
        pid = run.pid_of("a")
        run.pid_of("b")
        assert ask(["start", "a", *manager]).returncode == 1
        assert ask(["stop", "a", *manager]).returncode == 0
        assert _is_gone(pid)
        assert run.services()["a"]["state"] == "stopped"
        assert ask(["start", "a", *manager]).returncode == 0
        assert run.services()["a"]["state"] == "ready"
        told = ask(["restart", "a", *manager, "--json"])
        assert json.loads(told.stdout)["done"] is True
        assert run.services()["a"]["incarnation"] == 3
        told = ask(["restart", "nobody", *manager])
        assert told.returncode == 1
        assert "there is no service 'nobody'" in told.stderr
        assert ask(["services", "--manager", "no-such-manager"]).returncode == 1
        assert run.services()["b"]["incarnation"] == 1


def test_a_manager_stays_for_what_was_stopped_by_hand(shop: Path) -> None:
    with running(
        shop, _service("a") + '[services.b]\ncall = "shop:once"\nrestart = "transient"\n'
    ) as run:
        run.wait_until(lambda: run.services().get("b", {}).get("state") == "ended")
        own = ["--manager", str(run.process.pid)]
        for _ in range(2):
            assert ask(["stop", "a", *own]).returncode == 0
            assert run.services()["a"]["state"] == "stopped"
            assert ask(["start", "a", *own]).returncode == 0
            assert run.services()["a"]["state"] == "ready"
        assert ask(["stop", "a", *own]).returncode == 0
        # It is gone from the file: nothing is left that could be started.
        (shop / "x.toml").write_text('[services.b]\ncall = "shop:once"\nrestart = "transient"\n')
        run.send(signal.SIGHUP)
        assert run.status() == 0


def test_a_rolling_restart_is_done_when_the_last_replica_is_ready(shop: Path) -> None:
    with running(shop, _service("a", more="replicas = 3")) as run:
        pids = {run.pid_of(f"a.{i}") for i in range(3)}
        assert ask(["restart", "a", "--manager", str(run.process.pid)]).returncode == 0
        services = run.services()
        assert [services[f"a.{i}"]["incarnation"] for i in range(3)] == [2, 2, 2]
        assert [one["state"] for one in services.values()] == ["ready"] * 3
        assert not pids & {one["pid"] for one in services.values()}


def test_a_port_that_is_taken(shop: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = _service("a") + _service("b", more=f'listen = {{ x = "/ip4/127.0.0.1/tcp/{port}" }}')
        with running(shop, text) as run:
            assert run.status() == 1
            assert "in use" in run.text
            assert "for listen.x of service 'b'" in run.text
            assert "is up" not in run.text


def test_a_restart_that_fails_is_said_to(shop: Path) -> None:
    with running(shop, _service("a", more="backoff = { initial = 5 }")) as run:
        run.pid_of("a")
        (shop / "shop.py").write_text("nonsense(")
        told = ask(["restart", "a", "--manager", str(run.process.pid)])
        assert told.returncode == 1
        assert "not done: a is backoff" in told.stderr


def test_check(shop: Path) -> None:
    (shop / "bad.py").write_text("import nowhere_to_be_found\n")
    (shop / "exits.py").write_text("import os\nos._exit(3)\n")
    (shop / "x.toml").write_text(
        _service("a")
        + '[services.b]\ncall = "bad:fn"\n[services.c]\ncall = "shop:nothing"\n'
        + '[services.d]\ncall = "shop:BASIC"\n[services.e]\ncall = "shop:once"\nargs = { nope = 1 }\n'
        + '[services.f]\nmodules = ["exits"]\n[services.g]\ncall = "shop:talk"\n'
    )
    command = [sys.executable, "-m", "tractor", "run", "x.toml", "--check"]
    told = subprocess.run(
        [*command, "--json"], cwd=shop, capture_output=True, text=True, check=False
    )
    assert told.returncode == 2
    found = json.loads(told.stdout)
    texts = {one["table"]: (one["key"], one["text"]) for one in found["problems"]}
    assert found["ok"] is False
    assert set(texts) == {f"services.{name}" for name in "bcdef"}
    assert "ModuleNotFoundError: No module named 'nowhere" in texts["services.b"][1]
    assert "AttributeError" in texts["services.c"][1]
    assert texts["services.e"][0] == "args"
    assert "'nope'" in texts["services.e"][1]
    assert "status 3" in texts["services.f"][1]
    (shop / "x.toml").write_text(_service("a"))
    told = subprocess.run(command, cwd=shop, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.endswith("x.toml: 1 services are right: a\n")
