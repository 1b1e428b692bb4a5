import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import tractor
from tractor.trionics import WorkerPool, open_worker_pool


def primes(below: int) -> dict[str, int]:
    """Run in a worker: it takes the processor, so it would hold up all other pages here."""
    found = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, below))
    return {"primes": found, "pid": os.getpid()}


class State(TypedDict):
    pool: WorkerPool


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[State]:
    async with open_worker_pool(2) as pool:
        yield {"pool": pool}


async def page(request: Request) -> JSONResponse:
    try:
        below = request.path_params["below"]
        return JSONResponse(await request.state.pool.run(primes, below))
    except tractor.RemoteActorError as error:
        return JSONResponse({"error": error.message}, status_code=500)


app = Starlette(routes=[Route("/primes/{below:int}", page)], lifespan=lifespan)
