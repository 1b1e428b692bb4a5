"""The parser that every command has for its arguments."""

from __future__ import annotations

import argparse
from typing import NoReturn

from tractor._util._names import nearest


class Parser(argparse.ArgumentParser):
    """Says of an unknown option which one was probably meant."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and end with code 2."""
        known = [option for action in self._actions for option in action.option_strings]
        words = [word.partition("=")[0] for word in message.split() if word.startswith("-")]
        meant = [option for word in words if word not in known and (option := nearest(word, known))]
        super().error(f"{message} (did you mean {', '.join(meant)}?)" if meant else message)
