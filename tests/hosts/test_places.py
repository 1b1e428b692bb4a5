"""What `host=` may be, the hosts table, and the commands of the engines; no process."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from tractor.hosts._bundle import boot_command
from tractor.hosts._engine import address_towards, get_engine
from tractor.hosts._place import Place, place_at
from tractor.hosts._table import load_hosts, place_of


def test_the_defaults() -> None:
    place = place_at("ssh://bob@h1:2222/")
    assert (place.name, place.engine, place.target) == ("ssh://bob@h1:2222/", "ssh", "bob@h1:2222")
    assert (place.python, place.cwd, place.env, place.ship) == ("python3", None, {}, ())
    assert (place.road, place.deadline, place.start_timeout) == (None, 10.0, 60.0)


def test_ship_is_one_name_or_several() -> None:
    assert place_at("ssh://h", ship="main").ship == ("main",)
    assert place_at("ssh://h", ship=["main", "pkg"]).ship == ("main", "pkg")


@pytest.mark.parametrize(
    ("url", "options", "error", "says"),
    [
        ("ssh:", {}, ValueError, "no URL of a host"),
        ("ssh://", {}, ValueError, "no URL of a host"),
        ("://h", {}, ValueError, "no URL of a host"),
        ("ssh://bob:secret@h", {}, ValueError, "password"),
        (7, {}, TypeError, "not 7"),
        ("ssh://h", {"pyhton": "x"}, TypeError, "'pyhton'; there are"),
        ("ssh://h", {"python": ""}, ValueError, "python ''"),
        ("ssh://h", {"python": 3}, TypeError, "python"),
        ("ssh://h", {"deadline": 1.0}, ValueError, "deadline=1.0"),
        ("ssh://h", {"deadline": float("nan")}, ValueError, "deadline=nan"),
        ("ssh://h", {"start_timeout": 0.0}, ValueError, r"start_timeout=0\.0"),
        ("ssh://h", {"road": "air"}, TypeError, "road"),
        ("ssh://h", {"advertise": "0.0.0.0"}, ValueError, "advertise='0.0.0.0' must be a name"),
        ("ssh://h", {"advertise": "localhost"}, ValueError, "advertise='localhost' means"),
        ("ssh://h", {"advertise": "gate:80"}, ValueError, "advertise='gate:80' must be a name"),
        ("ssh://h", {"env": {"A=B": "c"}}, ValueError, "'A=B'"),
        ("ssh://h", {"env": {"A": 1}}, TypeError, "env"),
    ],
)
def test_what_is_no_place(
    url: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        place_at(url, **options)
    assert "secret" not in str(caught.value)


# -- the table ----------------------------------------------------------------------------------------

TABLE = """\
[gpu]
url = "ssh://bob@gpu1"
python = "/opt/python"
ship = "main"
deadline = 30

[web]
url = "command://web"
options = { command = ["docker", "exec", "-i", "{name}"] }
"""


def test_names_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "hosts.toml"
    file.write_text(TABLE)
    tables = load_hosts(file)
    assert place_of("gpu", tables) == place_at(
        "ssh://bob@gpu1", "gpu", python="/opt/python", ship="main", deadline=30.0
    )
    assert place_of("web", tables).options == {"command": ["docker", "exec", "-i", "{name}"]}
    assert place_of("ssh://x", tables).target == "x"
    place = Place(name="n", engine="ssh", target="t")
    assert place_of(place, tables) is place
    monkeypatch.setenv("TRACTOR_HOSTS", str(file))
    assert load_hosts(None) == tables
    monkeypatch.delenv("TRACTOR_HOSTS")
    assert load_hosts(None) == {}


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"no host is named 'gpu'; there are \['a'\]"):
        place_of("gpu", {"a": {"url": "ssh://a"}})
    with pytest.raises(ValueError, match="there is no hosts table: give `hosts=` or TRACTOR_HOSTS"):
        place_of("gpu", {})
    with pytest.raises(TypeError, match="not 5"):
        place_of(5, {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = ", "Invalid value"),
        ("[a]\npython = 'x'", r"table \[a\] has no url"),
        ("a = 1", "'a' is no table"),
        ("[a]\nurl = 'ssh://a'\ncolour = 'red'", "host 'a': no option is named 'colour'"),
        ("[a]\nurl = 'ssh'\n[b]\nurl = 'ssh://b'\nroad = 1", "(?s)no URL.*host 'b'"),
    ],
)
def test_a_table_with_faults_names_all_of_them(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "hosts.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        load_hosts(file)
    assert str(file) in str(caught.value)


# -- engines ------------------------------------------------------------------------------------------


def command(url: str, *back: tuple[str, int], **options: Any) -> list[str]:
    place = place_at(url, **options)
    engine: Any = get_engine(place.engine)
    engine.check(place)
    argv: list[str] = engine.command(place, boot_command(place.python), back)
    return argv


def test_the_command_of_ssh() -> None:
    argv = command(
        "ssh://bob@h1:2222",
        ("127.0.0.1", 4711),
        ("::1", 1616),
        options={"ProxyJump": "gate"},
        deadline=5.5,
    )
    assert argv[:3] == ["ssh", "-o", "ProxyJump=gate"]
    assert argv[-2:] == ["h1", shlex.join(boot_command("python3"))]
    assert argv[argv.index("-p") + 1] == "2222"
    assert argv[argv.index("-l") + 1] == "bob"
    ways = [argv[i + 1] for i, arg in enumerate(argv) if arg == "-R"]
    assert ways == ["127.0.0.1:0:127.0.0.1:4711", "127.0.0.1:0:[::1]:1616"]
    # Its own keepalive is not shorter than the lease.
    assert "ServerAliveInterval=6" in argv
    assert "-R" not in command("ssh://h1")
    assert command("ssh://[fe80::1%eth0]:22")[-2] == "fe80::1%eth0"


@pytest.mark.parametrize("target", ["-oProxyCommand=x", "bob@-x", "a b", "h:port", "h:1:2", "@h"])
def test_a_target_is_no_option_of_ssh(target: str) -> None:
    with pytest.raises(ValueError, match="no target of ssh"):
        command(f"ssh://{target}")


def test_what_ssh_says_of_the_port() -> None:
    engine: Any = get_engine("ssh")
    line = "Allocated port 40123 for remote forward to 127.0.0.1:4711"
    assert engine.port_there(line) == (("127.0.0.1", 4711), 40123)
    line = "Allocated port 40124 for remote forward to ::1:1616"
    assert engine.port_there(line) == (("::1", 1616), 40124)
    assert engine.port_there("Warning: remote port forwarding failed") is None


def test_the_command_of_a_command() -> None:
    argv = command("command://web", options={"command": ["docker", "exec", "-i", "{name}"]})
    assert argv == ["docker", "exec", "-i", "web", *boot_command("python3")]


@pytest.mark.parametrize("options", [{}, {"command": []}, {"command": "docker"}, {"command": [1]}])
def test_no_command(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be the arguments of the command"):
        command("command://web", options=options)


def test_the_command_of_slurm() -> None:
    argv = command("slurm://n7", options={"exclusive": True, "cpus-per-task": 2})
    assert argv[:2] == ["srun", "--nodelist=n7"]
    assert "--exclusive" in argv
    assert "--cpus-per-task=2" in argv
    assert argv[-3:] == boot_command("python3")
    with pytest.raises(ValueError, match="no name of a node"):
        command("slurm://n[1-3]")


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("dask://sched", {}, "no target of dask"),
        ("dask://sched:8786/w 1", {}, "no target of dask"),
        ("dask://sched:8786", {"retries": 3}, "'retries' is no option of dask"),
        ("ray://head", {}, "no target of ray"),
        ("ray://auto", {"max_retries": 3}, "'max_retries' of ray is the engine's own"),
    ],
)
def test_a_cluster_that_can_not_be_asked(url: str, options: dict[str, Any], says: str) -> None:
    place = place_at(url, options=options)
    with pytest.raises(ValueError, match=says):
        get_engine(place.engine).check(place)


@pytest.mark.parametrize(
    "url",
    [
        "dask://sched:8786",
        "dask://[::1]:8786/w1",
        "dask://sched:8786/tcp://10.0.0.7:40123",
        "ray://auto/10.0.0.7",
        "ray://head:10001",
    ],
)
def test_a_cluster(url: str) -> None:
    place = place_at(url, options={"resources": {"GPU": 1}})
    get_engine(place.engine).check(place)


def test_an_engine_that_there_is_not() -> None:
    with pytest.raises(ValueError, match=r"'mosh://'; there are .*'ssh'"):
        get_engine("mosh")


def test_the_way_to_loopback() -> None:
    assert address_towards("127.0.0.1") == "127.0.0.1"
