"""The agent's program as it is sent to another host, so that it always is of this side's version.

An engine runs :func:`boot_command` there, and writes :func:`boot_input` to its stdin, which is the link from then on.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import shlex
import zlib
from typing import Any, NamedTuple

MODULES = (
    "tractor._proto.deadlines",
    "tractor._proto.lease",
    "tractor._util.dist._name",
    "tractor.process.host._find_host_id",
    "tractor.process._proc",
    "tractor.process._stdio",
    "tractor.process.sentinel._sentinel_main",
    "tractor.hosts._frames",
    "tractor.hosts.agent._facts",
    "tractor.hosts.agent._link",
    "tractor.hosts.agent._children",
    "tractor.hosts.agent._store",
    "tractor.hosts.agent._fields",
    "tractor.hosts.agent._roster",
    "tractor.hosts.agent._guard",
    "tractor.hosts.agent._looks",
    "tractor.hosts.agent._main",
)
"""The agent, in an order in which each imports only what stands before it, and the standard library."""

DIALS_BACK = (*MODULES, "tractor.hosts.agent._seal", "tractor.hosts.agent._dial")

_LOADER = """\
import sys, types

def install(name, source):
    # Packages without a file, a path or a word in common with those that are installed here.
    above = name
    while above := above.rpartition(".")[0]:
        if above not in sys.modules:
            package = sys.modules[above] = types.ModuleType(above)
            package.__path__ = []
    module = sys.modules[name] = types.ModuleType(name)
    module.__package__ = name.rpartition(".")[0]
    module.__file__ = "<tractor agent>/" + name
    setattr(sys.modules[module.__package__], name.rpartition(".")[2], module)
    exec(compile(source, module.__file__, "exec", dont_inherit=True), vars(module))
"""

# Read by any Python 3, and by 2 up to where it says that it is too old.  One line, without the characters that some
# shell reads within single quotes: quotes, backslashes and exclamation marks.  What it reads it reads without a
# buffer: behind the program come frames.
_BOOT = (
    "import sys;"
    # What is in the working directory is not the standard library.
    'sys.path[:]=[p for p in sys.path if p[:1]=="/"];'
    "sys.version_info>=(3,11) or "
    'sys.exit("tractor agent: %s is Python %d.%d, which is too old: 3.11 or later is needed; '
    'name another one by python=" % ((sys.executable,)+sys.version_info[:2]));'
    "import zlib;"
    'f=open(0,"rb",0,closefd=False);'
    "n=int(f.readline() or 0);"
    "b=bytearray();"
    '[b.extend(f.read(n-len(b)) or sys.exit("tractor agent: its program was cut off")) '
    "for _ in iter(lambda:len(b)<n,False)];"
    'n or sys.exit("tractor agent: no program came");'
    "exec(zlib.decompress(b))"
)


def boot_command(python: str = "python3") -> list[str]:
    """The command that runs the agent, once it has read :func:`boot_input` from its stdin.

    It needs nothing on the other host but Python 3.11 or later; an older one says so on stderr and ends with status 1.
    :func:`shlex.join` quotes it for sh, bash, zsh and fish alike.  ``TRACTOR-AGENT 1`` and a newline are the agent's
    first bytes; what comes before them is others' output.

    Args:
        python: the interpreter there: a name or a path.
    """
    return [python, "-c", _BOOT]


def boot_text(python: str = "python3") -> str:
    """:func:`boot_command` for a shell, which finds a home that ``python`` begins with, ``~/`` or ``~somebody/``."""
    home, slash, rest = python.partition("/")
    if not slash or not re.fullmatch("~[A-Za-z0-9._-]*", home):
        home, rest = "", python
    first, *others = boot_command(rest)
    return f"{home}{slash if home else ''}{shlex.quote(first)} {shlex.join(others)}"


class Dial(NamedTuple):
    """Where an agent without a link of its own calls.

    Attributes:
        host, port: who waits for it, as seen from there.
        token: one that is good for this call, in hexadecimal.
        ca: certificates in PEM form that vouch for who waits; ``None``: the system's.
        tls: whether the connection is by TLS.
    """

    host: str
    port: int
    token: str
    ca: str | None = None
    tls: bool = False


def boot_input(dial: Dial | None = None) -> bytes:
    """What the command's stdin begins with: the program.

    Args:
        dial: the agent connects there; so the token is in nobody's command line.  ``None``: stdin and stdout are the
            link.
    """
    if dial is None:
        return _stdio_program()
    args = ", ".join(map(ascii, dial))
    return _packed(DIALS_BACK, f"sys.modules['tractor.hosts.agent._dial'].dial({args})")


@functools.cache
def _stdio_program() -> bytes:
    return _packed(MODULES, "sys.modules['tractor.hosts.agent._main'].main()")


def _packed(modules: tuple[str, ...], call: str) -> bytes:
    # Names of files are no use over there, and JSON's strings are Python's.
    parts = [
        _LOADER,
        *(f"install({json.dumps(name)}, {json.dumps(_source(name))})\n" for name in modules),
    ]
    # A quarter of its size: it fits a pipe, and the first packets of a connection.
    packed = zlib.compress("".join([*parts, call, "\n"]).encode())
    return b"%d\n%b" % (len(packed), packed)


def _source(name: str) -> str:
    spec = importlib.util.find_spec(name)
    loader: Any = None if spec is None else spec.loader
    source: str | None = loader.get_source(name) if hasattr(loader, "get_source") else None
    if source is None:
        raise RuntimeError(
            f"the source of {name} is not here, as in a frozen program: other hosts can't be given the agent"
        )
    return source
