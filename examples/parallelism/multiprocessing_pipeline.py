"""The same pipeline on the standard library's `multiprocessing`, for comparison.

What to learn: what `pipeline.py` leaves out. Each stage needs a queue with a bound, a mark for the
end and one for an error, somebody who looks whether a process has died without either, and care
that no process is left when something fails. The traceback of the stage is lost on the way.
"""

import ast
import json
import multiprocessing
import tempfile
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from typing import Any

import trio

END = "end"
ERROR = "error"
VALUE = "value"


def receive(queue: "Queue[Any]", source: SpawnProcess | None = None) -> Iterator[Any]:
    """What another stage has put, until it says that this was all; its error, or its death."""
    while True:
        try:
            kind, content = queue.get(timeout=0.5)
        except Empty:
            if source is not None and not source.is_alive():
                raise RuntimeError(f"{source.name} died with {source.exitcode}") from None
            continue
        if kind == END:
            return
        if kind == ERROR:
            raise content
        yield content


def read(folder: str, texts: "Queue[Any]") -> None:
    """The first stage: the name and the text of each file."""
    try:
        for path in sorted(Path(folder).glob("*.py")):
            texts.put((VALUE, (path.name, path.read_text())))
    except Exception as exc:
        texts.put((ERROR, exc))
    else:
        texts.put((END, None))


def parse(texts: "Queue[Any]", counts: "Queue[Any]") -> None:
    """The second stage: how many functions each file has."""
    try:
        for name, text in receive(texts):
            tree = ast.parse(text, name)
            found = sum(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))
            counts.put((VALUE, (name, found)))
    except Exception as exc:
        counts.put((ERROR, exc))
    else:
        counts.put((END, None))


def add_up(folder: str) -> int:
    """The whole pipeline; its processes are gone at the end, unless this one is killed."""
    # Fresh processes, as actors are: forking a program that has threads is unsafe.
    context = multiprocessing.get_context("spawn")
    texts, counts = context.Queue(2), context.Queue(2)
    reader = context.Process(target=read, args=(folder, texts), name="reader")
    parser = context.Process(target=parse, args=(texts, counts), name="parser")
    started = []
    total = 0
    try:
        for process in (reader, parser):
            process.start()
            started.append(process)
        for _name, found in receive(counts, parser):
            total += found
    finally:
        for process in started:
            process.terminate()
            process.join()
    return total


async def main() -> None:
    """Read a package of the standard library, then a folder with a broken file in it."""
    package = str(Path(json.__file__).parent)
    print("functions in json:", await trio.to_thread.run_sync(add_up, package))

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "good.py").write_text("def f(): ...\n")
        Path(folder, "worse.py").write_text("def f(:\n")
        try:
            await trio.to_thread.run_sync(add_up, folder)
        except SyntaxError as exc:
            print(f"SyntaxError: {exc}")


if __name__ == "__main__":
    trio.run(main)
