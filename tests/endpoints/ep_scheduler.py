"""An engine whose scheduler is a few threads of the link process: what every machine can try call-backs with.

Its options are files: `gate` has to be there before a job starts; `told` gets a line for each thing that happens. With
`forgetful` a job that was withdrawn starts nevertheless.
"""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

from tractor.hosts import Offer, Place


class Job:
    def __init__(self, place: Place, offer: Offer) -> None:
        self.options = place.options
        self.offer = offer
        self.withdrawn = threading.Event()
        threading.Thread(target=self.run, daemon=True).start()

    def tell(self, what: str) -> None:
        with open(self.options["told"], "a") as file:
            file.write(what + "\n")

    def run(self) -> None:
        self.tell("waits")
        gate = Path(self.options.get("gate", "/"))
        while not gate.exists():
            if self.withdrawn.is_set() and not self.options.get("forgetful"):
                return self.tell("never started")
            time.sleep(0.01)
        popen = subprocess.Popen(
            self.options.get("program") or self.offer.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.tell(f"started {popen.pid}")
        _, said = popen.communicate(self.offer.stdin)
        self.tell(f"ended {popen.returncode} {said.decode()}")
        self.offer.ended(said.decode())


class Engine:
    key = "threads"
    can_tunnel = False

    def check(self, place: Place) -> None:
        if "told" not in place.options:
            raise ValueError("say where to tell")

    def address_here(self, place: Place) -> str:
        return "127.0.0.1"

    def keepalive(self, deadline: float) -> None:
        assert deadline >= 2.0

    def submit(self, place: Place, offer: Offer) -> Job:
        if place.target == "broken":
            raise ZeroDivisionError("it has divided")
        return Job(place, offer)

    def withdraw(self, job: Job) -> None:
        job.tell("withdrawn")
        job.withdrawn.set()


DIST_INFO = {
    "METADATA": "Metadata-Version: 2.1\nName: threads-engine\nVersion: 1.0\n",
    "entry_points.txt": "[tractor.host_engines]\nthreads = ep_scheduler:Engine\n",
}


def install(folder: Path) -> None:
    """Be found as an engine by whoever has the folder, and this one, in its path."""
    info = folder / "threads_engine-1.0.dist-info"
    info.mkdir()
    for name, text in DIST_INFO.items():
        (info / name).write_text(text)
