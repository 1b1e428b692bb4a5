"""The same service with the standard library's `multiprocessing`, for comparison.

What to learn: what `a_restart_under_load.py` leaves out. Each replica needs a pipe, a lock that keeps requests on it
apart, and a mark while it is drained; a thread has to look for dead ones and start others; a restart is a protocol of
its own. There is no delay between restarts, no limit of them and no health check here, and errors of a request would
need a mark. A replica serves one request at a time.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import trio


def price(symbol: str) -> int:
    """Run in a replica; tells which one."""
    time.sleep(0.01)
    return os.getpid()


def serve(requests: Connection) -> None:
    """A replica: until it is told to end, or the other side is gone."""
    while True:
        try:
            symbol = requests.recv()
        except EOFError:
            return
        if symbol is None:
            return
        requests.send(price(symbol))


class Replica:
    """A process with its pipe."""

    def __init__(self) -> None:
        # Fresh processes, as actors are: forking a program that has threads is unsafe.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.lock = threading.Lock()
        self.is_drained = False
        self.process: SpawnProcess = context.Process(target=serve, args=(theirs,))
        self.process.start()
        theirs.close()

    def ask(self, symbol: str) -> int:
        self.pipe.send(symbol)
        answer: int = self.pipe.recv()
        return answer

    def end(self) -> None:
        """Once what it works on is done."""
        self.is_drained = True
        with self.lock:
            if self.process.is_alive():
                with suppress(OSError):
                    self.pipe.send(None)
            self.process.join(5)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
            self.pipe.close()


class Service:
    """Two replicas, and who looks after them."""

    def __init__(self) -> None:
        self.replicas = [Replica(), Replica()]
        self.changing = threading.Lock()
        self.is_over = threading.Event()
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()

    def watch(self) -> None:
        while not self.is_over.wait(0.05):
            with self.changing:
                for place, replica in enumerate(self.replicas):
                    if not replica.process.is_alive():
                        self.replicas[place] = Replica()
                        replica.end()

    def run(self, symbol: str) -> int:
        while not self.is_over.is_set():
            for replica in list(self.replicas):
                if not replica.is_drained and replica.lock.acquire(blocking=False):
                    try:
                        if not replica.is_drained:
                            return replica.ask(symbol)
                    except (EOFError, OSError):
                        replica.is_drained = True
                    finally:
                        replica.lock.release()
            time.sleep(0.001)
        raise RuntimeError("the service has ended")

    def restart(self) -> None:
        for place in range(len(self.replicas)):
            with self.changing:
                old = self.replicas[place]
                self.replicas[place] = Replica()
                old.end()

    def stop(self) -> None:
        self.is_over.set()
        self.watcher.join()
        for replica in self.replicas:
            replica.end()


def customer(service: Service, answers: list[int], is_over: Callable[[], bool]) -> None:
    """Ask again and again."""
    while not is_over():
        answers.append(service.run("ACME"))


def several(answers: list[int], replicas: int) -> None:
    """Wait until so many have answered in all."""
    limit = time.monotonic() + 60
    while len(set(answers)) < replicas:
        if time.monotonic() > limit:
            raise TimeoutError
        time.sleep(0.01)


def whole() -> None:
    answers: list[int] = []
    is_over = threading.Event()
    service = Service()
    customers = [
        threading.Thread(target=customer, args=(service, answers, is_over.is_set)) for _ in range(4)
    ]
    try:
        for thread in customers:
            thread.start()
        several(answers, 2)
        pid = service.replicas[0].process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        several(answers, 3)
        service.restart()
        several(answers, 5)
    finally:
        is_over.set()
        for thread in customers:
            thread.join()
        service.stop()
    print(f"no request was lost, {len(set(answers))} processes have answered")


async def main() -> None:
    await trio.to_thread.run_sync(whole)


if __name__ == "__main__":
    trio.run(main)
