"""What stands around the debugger, and what shows what a tree does.

What to learn: none of these needs a terminal; `tractor.pause()` and the others are in `examples/debugging/`.
"""

import os
import signal
import tempfile

import trio

import tractor
from tractor import devx
from tractor.devx import debug


def repl() -> None:
    """The REPL that a breakpoint opens, and its settings."""
    made: debug.PdbREPL = debug.mk_pdb()
    assert isinstance(made, debug.PdbREPL)
    print(debug.TractorConfig.__mro__[1].__name__)


async def lock() -> None:
    """Who has the terminal."""
    held = debug.get_lock()
    told: debug.LockStatistics = held.statistics()
    print("held by", told.holder, "for", debug.get_debug_req())
    await debug.maybe_wait_for_debugger()


def crashes() -> None:
    """Without debug mode nobody is asked, and the error goes on."""
    try:
        with devx.maybe_open_crash_handler(pdb=False):
            raise ValueError("no number")
    except ValueError as error:
        print("went on:", error)


@devx.api_frame
def shown_as_one_call() -> None:
    """A function of a library, whose insides a traceback leaves out."""
    devx.hide_runtime_frames("example_library")


async def pictures() -> None:
    """The tree, and its tasks when a signal comes."""
    print((await devx.tree_picture()).splitlines()[0] != "")
    devx.enable_stack_on_sig(signal.SIGUSR1)


def resources() -> None:
    """What a block has left open."""
    with devx.track_resource_deltas("example", writer=print):
        pass


async def main() -> None:
    repl()
    crashes()
    shown_as_one_call()
    async with tractor.open_root_actor():
        await lock()
        await pictures()
        devx.set_actor_proctitle(tractor.current_actor())
    with devx.dump_on_hang(60.0, path=os.path.join(tempfile.gettempdir(), "example_hang.dump")):
        await trio.sleep(0)
    resources()


if __name__ == "__main__":
    trio.run(main)
