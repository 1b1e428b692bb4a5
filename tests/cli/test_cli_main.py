"""The command line: the table of commands, help, exit codes, both ways to call it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
import types
from collections.abc import Sequence
from pathlib import Path

import pytest

from tractor.cli import COMMANDS, main
from tractor.cli import _main as cli_main

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 30
"""Seconds that a command may take."""


def tractor(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tractor", *args], capture_output=True, text=True, timeout=LIMIT
    )


def test_the_help_tells_every_command() -> None:
    done = tractor("--help")
    assert done.returncode == 0, done.stderr
    for name, command in COMMANDS.items():
        assert name in done.stdout
        assert command.summary in done.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nonsense"], "'nonsense' is no command; `tractor` alone lists them"),
        (["tre"], "'tre' is no command; did you mean 'tree'?"),
        (["--versoin"], "(did you mean --version?)"),
        (["tree", "x", "--belwo"], "--belwo (did you mean --below?)"),
        (["tree", "x", "--limmit=3"], "(did you mean --limit?)"),
        (["tree", "x", "--qqq"], "unrecognized arguments: --qqq\n"),
        (["completion", "tcsh"], "'tcsh'"),
        (["--nonsense"], "COMMAND"),
        (["keygen", "a", "b"], "unrecognized arguments: b"),
        (["keygen", ""], "argument PATH: it is empty"),
        (["keygen", "/"], "'/' names no file"),
        (["keygen", "~no-such-user/k"], "'~no-such-user/k'"),
        (["certs", ""], "argument DIR: it is empty"),
        (["certs", "~no-such-user/c"], "'~no-such-user/c'"),
        (["certs"], "DIR"),
    ],
)
def test_wrong_arguments(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_alone_it_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in COMMANDS)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("tractor 0.")


def test_a_command_gets_its_arguments_and_gives_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    got: list[object] = []
    module = types.ModuleType("a_command")

    def run(argv: Sequence[str], prog: str) -> int:
        got.extend([list(argv), prog])
        return 7

    monkeypatch.setattr(module, "main", run, raising=False)
    monkeypatch.setitem(sys.modules, "a_command", module)
    monkeypatch.setitem(COMMANDS, "new", cli_main.Command("a_command", "for this test"))
    assert main(["new", "--flag", "x"]) == 7
    assert got == [["--flag", "x"], "tractor new"]


def test_ctrl_c_is_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = types.ModuleType("a_command")

    def run(argv: Sequence[str], prog: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "main", run, raising=False)
    monkeypatch.setitem(sys.modules, "a_command", module)
    monkeypatch.setitem(COMMANDS, "new", cli_main.Command("a_command", "for this test"))
    assert main(["new"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_the_demo_is_a_command() -> None:
    done = tractor("demo", "--limit", "3", "--workers", "1", "--no-crash")
    assert done.returncode == 0, done.stderr
    assert "no process is left" in done.stdout
    assert tractor("demo", "--limit", "0").returncode == 2


def test_the_help_imports_no_command_and_no_runtime() -> None:
    code = (
        "import sys\nfrom tractor.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'trio', 'msgspec', 'tractor.runtime', 'tractor.demo', 'tractor.cli._certs',"
        "'trustme', 'cryptography', 'platformdirs'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_script_is_installed_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["tractor"] == "tractor.cli:main"
    for extra in ("all",):
        assert any("certs" in line for line in project["optional-dependencies"][extra])
    script = Path(sys.executable).parent / ("tractor.exe" if os.name == "nt" else "tractor")
    if not script.exists():
        pytest.skip("this environment was made before there was a script")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert "keygen" in done.stdout


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="masks of POSIX")
def test_a_manager_that_does_not_start_leaves_signals_as_they_were(tmp_path: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert main(["run", str(tmp_path / "none.toml")]) == 2
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
