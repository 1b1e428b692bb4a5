"""Services of a file on other hosts: what the file says of them, and one run of a manager."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ep_manager_tools import ask, running
from ep_manager_tools import run_dir as run_dir

from tractor.services.file._problems import ServiceFileError
from tractor.services.file._service_file import load_services

HOSTS = """
[near]
url = "command://near"
python = {python!r}
options = {{ command = ["env"] }}
env = {{ PYTHONPATH = {path!r}, COLOUR = {colour!r} }}
ship = "main"
[none]
url = "command://none"
options = {{ command = ["false"] }}
"""

SHOP = """
import os, resource, sys
import trio

async def serve(what):
    print(what, os.environ["COLOUR"], os.getcwd(), flush=True)
    print(*resource.getrlimit(resource.RLIMIT_NOFILE), flush=True)
    print("unfinished", end="", flush=True)
    await trio.sleep_forever()
"""

FAR = """
[supervisor]
hosts = "hosts.toml"
[services.far]
call = "shop:serve"
args = { what = "here I am" }
host = ["none", "near"]
limits = { nofile = 200 }
cwd = "/"
"""


def write(folder: Path, text: str, colour: str = "green") -> Path:
    given = {"python": sys.executable, "path": str(folder), "colour": colour}
    (folder / "hosts.toml").write_text(HOSTS.format(**given))
    (folder / "shop.py").write_text(SHOP)
    file = folder / "x.toml"
    file.write_text(text)
    return file


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ServiceFileError) as caught:
        load_services(write(folder, text))
    return [str(one) for one in caught.value.problems]


def test_names_are_those_of_the_table_beside_the_file(tmp_path: Path) -> None:
    file = load_services(write(tmp_path, FAR))
    assert [place.name for place in file.places["far"]] == ["none", "near"]
    assert file.supervisor.hosts == str(tmp_path / "hosts.toml")
    # The manager has no main module of the program's to send.
    assert file.places["far"][1].ship == ()
    # What the table says of a host is part of the service.
    again = load_services(write(tmp_path, FAR, "blue"))
    assert file.changes_to(again).changed == ["far"]
    assert not file.changes_to(load_services(write(tmp_path, FAR)))


def test_without_a_table_a_variable_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[services.a]\nmodules = ["m"]\nhost = "near"\n'
    monkeypatch.delenv("TRACTOR_HOSTS", raising=False)
    assert problems(tmp_path, text) == [
        "[services.a] host = \"near\": no host is named 'near'; there is no hosts table: give `hosts=` or "
        "TRACTOR_HOSTS"
    ]
    monkeypatch.setenv("TRACTOR_HOSTS", str(tmp_path / "hosts.toml"))
    assert load_services(write(tmp_path, text)).places["a"][0].target == "near"


def test_what_is_of_this_host_is_refused_for_another(tmp_path: Path) -> None:
    text = """
[supervisor]
hosts = "hosts.toml"
[services.a]
modules = ["m"]
host = ["nears", "pigeon://x", "command://y"]
listen = { http = "/ip4/127.0.0.1/tcp/0" }
user = "bob"
cwd = "data"
transports = ["uds"]
recycle = { rss = 5 }
[services.b]
modules = ["m"]
host = []
"""
    told = [
        "[services.a] host = \"nears\": no host is named 'nears'; there are ['near', 'none']; did you mean 'near'?",
        "[services.a] host = \"pigeon://x\": no engine starts actors at 'pigeon://'; there are ",
        "[services.a] host = \"command://y\": host 'command://y': options['command'] must be",
        "[services.a] listen: a socket of this host can't be handed to another one",
        '[services.a] user = "bob": is for this host: name the user in the URL',
        '[services.a] cwd = "data": is a directory of the other host',
        "[services.a] transports = ['uds']: another host is reached by TCP alone",
        "[services.a] recycle.rss = 5: the size of a process on another host",
        "[services.b] host = []: ",
    ]
    found = problems(tmp_path, text)
    assert len(found) == len(told), found
    for one, start in zip(found, told, strict=True):
        assert one.startswith(start), (one, start)
    missing = problems(tmp_path, text.replace("hosts.toml", "no.toml").replace('"nears", ', ""))
    assert missing[0] == '[supervisor] hosts = "no.toml": can\'t be read: No such file or directory'


@pytest.mark.skipif(sys.platform != "linux", reason="agents need /proc here")
def test_a_service_runs_at_the_first_host_that_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLOUR", "red")
    write(tmp_path, FAR)
    with running(tmp_path, FAR) as run:
        # Its lines come as those of any service.
        run.wait_for("far | here I am green /")
        run.wait_for("far | 200 200")
        run.wait_for("far | unfinished")
        run.wait_for("goes to another host: host 'none'")
        write(tmp_path, FAR, "blue")
        told = ask(["reload", "--manager", str(run.process.pid)])
        assert (told.returncode, told.stdout) == (0, "changed: far\n")
        run.wait_for("far | here I am blue /")
        assert run.end() == 0
