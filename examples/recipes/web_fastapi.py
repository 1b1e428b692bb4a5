import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI, Request
from pydantic import BaseModel

import tractor


class Count(BaseModel):
    """What the page answers; pydantic's, so the web application's own."""

    visits: int
    pid: int


counts: dict[str, int] = {}


async def count(name: str) -> tuple[int, int]:
    """Run in the counter, which keeps the state that all pages share."""
    counts[name] = counts.get(name, 0) + 1
    return counts[name], os.getpid()


class State(TypedDict):
    counter: tractor.Service


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    async with tractor.open_supervisor() as sup:
        yield {"counter": await sup.start_service("counter", enable_modules=[__name__])}


app = FastAPI(lifespan=lifespan)


@app.get("/visit/{name}")
async def visit(name: str, request: Request) -> Count:
    visits, pid = await request.state.counter.run(count, name)
    return Count(visits=visits, pid=pid)
