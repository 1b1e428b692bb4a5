"""An agent comes up wherever there is a Python of its age, whatever that place does to get into its way."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ep_near_side import PATIENCE, Near

from tractor.hosts._bundle import _BOOT, Dial, boot_command, boot_input, boot_text
from tractor.hosts._frames import Decoder, encode
from tractor.hosts.agent._link import MAGIC
from tractor.hosts.agent._seal import LINK, NONCE, PROOF, Seal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="an agent needs POSIX")


def comes_up(near: Near) -> None:
    assert near.hello
    near.spawn(1, "print('here')")
    near.wait_for_output(1, b"here")
    near.send("end")
    assert near.wait_until_ended() == 0


def test_what_start_up_files_print_comes_before_its_mark(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('Welcome to h1!\\n' * 100, flush=True)")
    with Near(env={**os.environ, "PYTHONPATH": str(tmp_path)}) as near:
        comes_up(near)
        assert near.noise.count(b"Welcome") == 100


def test_what_is_printed_later_goes_to_stderr(tmp_path: Path) -> None:
    """As by a thread that a start-up file has left."""
    printed = tmp_path / "printed"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, sys, threading, time\n"
        "def late():\n"
        "    while not os.path.sameopenfile(1, 2): time.sleep(0.01)\n"
        "    print('late', flush=True)\n"
        f"    pathlib.Path({str(printed)!r}).touch()\n"
        "if len(sys.orig_argv) > 2 and 'closefd' in sys.orig_argv[2]:\n"
        "    threading.Thread(target=late, daemon=True).start()\n"
    )
    with Near(env={**os.environ, "PYTHONPATH": str(tmp_path)}) as near:
        assert near.hello
        near.until(printed.exists)
        comes_up_again = near.spawn(1, "print('here')")
        assert comes_up_again["pid"]
        near.send("end")
        near.wait_until_ended()
        assert b"late" in near.stderr()


STANDARD = ["json", "zlib", "select", "signal", "struct", "base64", "types", "typing", "tractor"]


def test_modules_of_the_working_directory_are_not_taken_for_the_standard_ones(
    tmp_path: Path,
) -> None:
    for name in STANDARD:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    with Near(cwd=str(tmp_path)) as near:
        assert near.hello["cwd"] == os.path.realpath(tmp_path)
        near.send("end")
        assert near.wait_until_ended() == 0


def test_it_needs_no_variable(tmp_path: Path) -> None:
    with Near(env={}) as near:
        comes_up(near)


def test_it_needs_no_stderr() -> None:
    with Near(command=["/bin/sh", "-c", f"exec {boot_text(sys.executable)} 2>&-"]) as near:
        comes_up(near)


def test_without_stdout_there_is_no_link() -> None:
    popen = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {boot_text(sys.executable)} >&-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _, stderr = popen.communicate(boot_input(), timeout=PATIENCE)
    assert popen.returncode == 1
    assert b"Bad file descriptor" in stderr


def other_python(version: str) -> str:
    """Another interpreter of this machine.  Skips the test where there is none."""
    name = f"python{version}"
    at_pyenv = Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}")
    for found in (shutil.which(name), *map(str, at_pyenv)):
        if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            return found
    pytest.skip(f"no {name}")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_it_comes_up_on_another_python(version: str) -> None:
    python = other_python(version)
    with Near(command=boot_command(python)) as near:
        assert near.hello["python"].startswith(version)
        comes_up(near)
        assert near.stderr() == b""


def test_where_tractor_is_not_installed_it_says_so() -> None:
    with Near(command=[sys.executable, "-S", *boot_command(sys.executable)[1:]]) as near:
        hello = near.hello
        assert (hello["tractor"], hello["msgspec"]) == (None, None)
        comes_up(near)


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7", "3.8", "3.9", "3.10"])
def test_an_old_python_is_told_of(version: str) -> None:
    python = other_python(version)
    done = subprocess.run(
        boot_command(python), input=boot_input(), capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"too old: 3.11 or later is needed" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_python_that_is_told_its_version_is_old_says_so() -> None:
    """Where none is installed."""
    program = "import sys; sys.version_info = (3, 9, 1); exec(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, _BOOT], capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert b"is Python 3.9, which is too old" in done.stderr


# -- shells --


def test_its_command_has_nothing_that_a_shell_reads_within_quotes() -> None:
    assert not set(_BOOT) & {"'", "\\", "!", "\n", "`"}
    assert _BOOT.isascii()


SHELLS = ["sh", "bash", "dash", "zsh", "fish", "csh", "tcsh", "ksh"]


@pytest.mark.parametrize("shell", SHELLS)
def test_it_comes_up_through_a_shell(shell: str, tmp_path: Path) -> None:
    """As sshd runs a command, with an interpreter whose name needs quotes."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"no {shell}")
    folder = tmp_path / "it's a $HOME"
    folder.mkdir()
    link = folder / "python"
    link.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    link.chmod(0o755)
    with Near(command=[found, "-c", boot_text(str(link))]) as near:
        comes_up(near)


def test_a_home_in_its_command_is_found_by_the_shell(tmp_path: Path) -> None:
    link = tmp_path / "my python"
    link.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    link.chmod(0o755)
    env = {**os.environ, "HOME": str(tmp_path)}
    with Near(command=["/bin/sh", "-c", boot_text("~/my python")], env=env) as near:
        comes_up(near)


@pytest.mark.parametrize("python", ["~$(x)/y", "~", "~a b/c", "python"])
def test_what_is_no_home_is_quoted(python: str) -> None:
    assert not boot_text(python).startswith("~")


# -- dialling back --


def dialled(server: socket.socket, token: str) -> subprocess.Popen[bytes]:
    host, port = server.getsockname()
    popen = subprocess.Popen(
        boot_command(sys.executable),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert popen.stdin is not None
    popen.stdin.write(boot_input(Dial(host, port, token)))
    popen.stdin.close()
    popen.stdin = None
    return popen


TOKEN = bytes(range(32))


def test_it_dials_back_and_proves_that_it_has_its_token() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        popen = dialled(server, TOKEN.hex())
        conn, _ = server.accept()
    with conn, conn.makefile("rb") as incoming:
        conn.settimeout(PATIENCE)
        nonces = incoming.read(NONCE) + os.urandom(NONCE)
        conn.sendall(nonces[NONCE:])
        seal = Seal(TOKEN, LINK, nonces)
        assert seal.is_proven(incoming.read(PROOF))
        orders = encode({"t": "hello", "deadline": 10.0}) + encode({"t": "end"})
        conn.sendall(seal.proof)
        conn.sendall(seal.seal(orders))
        said = seal.open(incoming.read())
        assert said.startswith(MAGIC)
        kinds = [obj["t"] for obj, _ in Decoder().feed(said.removeprefix(MAGIC))]
        assert kinds[0] == "hello"
        assert kinds[-1] == "gone"
    stdout, stderr = popen.communicate(timeout=PATIENCE)
    assert (popen.returncode, stdout, stderr) == (0, b"", b"")


def test_it_takes_no_orders_of_who_does_not_have_its_token() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        popen = dialled(server, TOKEN.hex())
        conn, _ = server.accept()
    with conn, conn.makefile("rb") as incoming:
        nonces = incoming.read(NONCE) + os.urandom(NONCE)
        conn.sendall(nonces[NONCE:] + Seal(bytes(32), LINK, nonces).proof)
        incoming.read()
    _, stderr = popen.communicate(timeout=PATIENCE)
    assert popen.returncode == 1
    assert b"does not have the token" in stderr


def test_a_start_that_was_withdrawn_ends_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        popen = None
        server.close()
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            popen = dialled(nobody, TOKEN.hex())
            stdout, stderr = popen.communicate(timeout=PATIENCE)
    assert popen.returncode == 1
    assert stdout == b""
    assert b"nobody waits for it at 127.0.0.1:" in stderr
    assert b"Traceback" not in stderr


def test_the_token_is_in_no_command_line() -> None:
    assert "secret" not in " ".join(boot_command("python3"))
    assert len(boot_input()) < 40_000, "it fits a pipe, with frames behind it"


def test_the_program_is_made_once() -> None:
    assert boot_input() is boot_input()
