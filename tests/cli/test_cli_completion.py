"""Completion in a shell: what is offered, asked of the shells themselves where they are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tractor.cli import COMMANDS, main
from tractor.cli._completion import SHELLS, Option, Table

TABLE: Table = {
    "certs": ("make 'certificates': [all]", [Option(("-n", "--name"), "it's [so]: yes", True, ())]),
    "tree": (
        "show `it`",
        [
            Option((), "who", True, ("one", "two")),
            Option(("--way",), "which", True, ("up", "down")),
            Option(("--below",), "below", False, ()),
        ],
    ),
}


def run(shell: str, program: str, cwd: Path) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    flags = {"zsh": ["-f"], "bash": ["--norc"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [path, *flags, "-c", program], capture_output=True, text=True, timeout=30, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_the_real_commands_is_one_that_the_shell_reads(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    assert "below" in script
    (tmp_path / "script").write_text(script)
    run(shell, {"fish": "fish --no-execute script"}.get(shell, f"{shell} -n script"), tmp_path)


def offered_by_bash(cwd: Path, *words: str) -> list[str]:
    line = " ".join(f"'{word}'" for word in words)
    program = (
        f"source ./script; COMP_WORDS=(tractor {line}); COMP_CWORD={len(words)}; _tractor;"
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return run("bash", program, cwd).split()


def offered_by_fish(cwd: Path, *words: str) -> list[str]:
    line = "tractor " + " ".join(words)
    told = run("fish", f"source ./script; complete --do-complete '{line}'", cwd)
    return [one.partition("\t")[0] for one in told.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_commands_options_and_choices_are_offered(shell: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(SHELLS[shell](TABLE))
    ask = {"bash": offered_by_bash, "fish": offered_by_fish}[shell]
    assert ask(tmp_path, "ce") == ["certs"]
    assert {"certs", "tree"} <= {*ask(tmp_path, "")}
    assert sorted(ask(tmp_path, "tree", "--")) == ["--below", "--way"]
    assert sorted(ask(tmp_path, "tree", "--way", "")) == ["down", "up"]
    assert ask(tmp_path, "tree", "tw") == ["two"]
    assert "--name" in ask(tmp_path, "certs", "--n")


def test_what_zsh_is_given_is_quoted(tmp_path: Path) -> None:
    """Its completion needs a terminal; here the arguments are printed instead."""
    (tmp_path / "script").write_text(SHELLS["zsh"](TABLE))
    program = (
        "compdef() { :; }; _arguments() { print -rl -- $@; }; _describe() { print -rl -- $commands; };"
        "source ./script;"
        "words=(tractor ''); CURRENT=2; _tractor; words=(tractor certs ''); CURRENT=3; _tractor"
    )
    told = run("zsh", program, tmp_path).splitlines()
    assert told == [
        r"certs:make 'certificates'\: \[all\]",
        "tree:show `it`",
        r"-n[it's \[so\]\: yes]: :_files",
        r"--name[it's \[so\]\: yes]: :_files",
    ]
