"""Arrays, lists and counters in shared memory.

What to learn: each has a token, which travels; another process attaches by it. Needs numpy.
"""

import numpy as np
import trio

import tractor
from tractor import ipc


def plain() -> None:
    """An array of any shape, its token, and its end."""
    array = ipc.open_shm((2, 3))
    token: ipc.ShmToken = ipc.shm_token(array)
    print(token.shape, ipc.attach_shm(token).sum())
    ipc.destroy_shm(array)


def series() -> None:
    """Rows that are appended."""
    dtype = np.dtype([("index", "i8"), ("price", "f8")])
    shm, opened = ipc.maybe_open_shm_ndarray("example_series", size=8, dtype=dtype)
    assert isinstance(shm, ipc.ShmArray)
    token: ipc.NDToken = shm.token
    print("opened:", opened, "known:", ipc.get_shm_token("example_series") == token)
    shm.destroy()


def lists() -> None:
    """A list of a fixed length."""
    shm: ipc.ShmList = ipc.open_shm_list("example_list", sequence=[1, 2, 3])
    print(list(shm))


async def main() -> None:
    async with tractor.open_root_actor():
        plain()
        series()
        lists()


if __name__ == "__main__":
    trio.run(main)
