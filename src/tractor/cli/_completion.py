"""``tractor completion``: a script by which a shell completes commands and options.

It is written from the parsers of the commands, and holds all that it needs: nothing is started at a press of TAB.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tractor.cli._arguments import Parser
from tractor.cli._main import COMMANDS


class Option(NamedTuple):
    """One option of a command, or all that it takes by position.

    Attributes:
        names: with their dashes; of what is taken by position none.
        text: what it is for.
        takes_value: something comes after it.
        choices: that this is one of; none: it may be anything, most likely a file.
    """

    names: tuple[str, ...]
    text: str
    takes_value: bool
    choices: tuple[str, ...]


Table = Mapping[str, tuple[str, Sequence[Option]]]
"""By command: its summary, and what it takes."""


def main(argv: Sequence[str], prog: str) -> int:
    """Print the script for a shell.

    Args:
        argv: the shell.
        prog: for messages.

    Returns:
        0.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    print(SHELLS[options.shell](_table()), end="")
    return 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Print the script by which a shell completes the commands of `tractor` and their options.",
        epilog="to load it:\n"
        "  bash  in ~/.bashrc: source <(tractor completion bash)\n"
        "  zsh   in ~/.zshrc, after compinit: source <(tractor completion zsh)\n"
        "  fish  tractor completion fish > ~/.config/fish/completions/tractor.fish",
    )
    made.add_argument("shell", choices=sorted(SHELLS))
    return made


def _table() -> Table:
    found = {}
    for name, command in sorted(COMMANDS.items()):
        takes = importlib.import_module(command.module).parser(f"tractor {name}")
        found[name] = (command.summary, [_option(action) for action in takes._actions])
    return found


def _option(action: argparse.Action) -> Option:
    text = re.sub(r"\s*\(default: .*?\)", "", action.help or "")
    choices = tuple(map(str, action.choices or ()))
    return Option(tuple(action.option_strings), text, action.nargs != 0, choices)


# -- bash ---------------------------------------------------------------------------------------------


def bash(table: Table) -> str:
    """The script for bash."""
    cases = "\n".join(
        f"        {name}) words='{' '.join(_words(options))}' ;;"
        for name, (_, options) in table.items()
    )
    values = "\n".join(
        f"        '{name} {flag}') COMPREPLY=($(compgen -W '{' '.join(option.choices)}' -- \"$cur\")); return ;;"
        for name, (_, options) in table.items()
        for option in options
        if option.choices
        for flag in option.names
    )
    return f"""\
# Completion of `tractor` for bash, written by `tractor completion bash`.
_tractor() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} words=
    COMPREPLY=()
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=($(compgen -W '{" ".join(table)} --help --version' -- "$cur"))
        return
    fi
    case "${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD-1]}}" in
{values}
    esac
    case ${{COMP_WORDS[1]}} in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o bashdefault -o default -F _tractor tractor
"""


def _words(options: Sequence[Option]) -> Iterator[str]:
    for option in options:
        yield from option.names or option.choices


# -- zsh ----------------------------------------------------------------------------------------------


def zsh(table: Table) -> str:
    """The script for zsh."""
    commands = "\n".join(
        f"        '{_zsh(name)}:{_zsh(summary)}'" for name, (summary, _) in table.items()
    )
    cases = "\n".join(
        f"        {name}) _arguments {' '.join(_zsh_arguments(options))} ;;"
        for name, (_, options) in table.items()
    )
    return f"""\
#compdef tractor
# Completion of `tractor` for zsh, written by `tractor completion zsh`.
_tractor() {{
    local -a commands
    commands=(
{commands}
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
{cases}
    esac
}}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _tractor "$@"
else
    compdef _tractor tractor
fi
"""


def _zsh_arguments(options: Sequence[Option]) -> Iterator[str]:
    for option in options:
        value = ""
        if option.takes_value:
            value = f": :({' '.join(option.choices)})" if option.choices else ": :_files"
        for name in option.names:
            yield f"'{name}[{_zsh(option.text)}]{value}'"
        if not option.names:
            yield f"'*{value}'"


def _zsh(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text).replace("'", "'\\''")


# -- fish ---------------------------------------------------------------------------------------------


def fish(table: Table) -> str:
    """The script for fish."""
    lines = ["# Completion of `tractor` for fish, written by `tractor completion fish`."]
    for name, (summary, options) in table.items():
        lines.append(
            f"complete -c tractor -n __fish_use_subcommand -f -a {name} -d '{_fish(summary)}'"
        )
        for option in options:
            lines.append(
                f"complete -c tractor -n '__fish_seen_subcommand_from {name}'{_fish_option(option)}"
                f" -d '{_fish(option.text)}'"
            )
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    flags = "".join(
        f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names
    )
    if option.choices:
        return f"{flags}{' -x' if flags else ' -f'} -a '{' '.join(option.choices)}'"
    return f"{flags} -r" if flags and option.takes_value else flags or " -F"


def _fish(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


SHELLS: dict[str, Callable[[Table], str]] = {"bash": bash, "fish": fish, "zsh": zsh}
