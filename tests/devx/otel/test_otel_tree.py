"""Trees that are instrumented, against a receiver of OTLP over HTTP that decodes what it gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the SDK of OpenTelemetry")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs its OTLP exporters")

sys.path.insert(0, str(Path(__file__).parent))

from otlp_receiver import Received, open_receiver

PROGRAM = Path(__file__).with_name("otel_tree.py")
LIMIT = 50
"""Seconds of a program; the longest takes 6 on a free machine."""


@pytest.fixture
def received() -> Iterator[Received]:
    with open_receiver() as found:
        yield found


def run_script(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *argv],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return done


def run(program: str, received: Received, **environment: str) -> dict[str, Any]:
    there = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, **environment}
    done = run_script(str(PROGRAM), program, **there)
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    said["stderr"] = done.stderr
    return said


def total(received: Received, name: str, **attributes: Any) -> float:
    """The sum of a counter over all actors."""
    return sum(
        one.value
        for one in received.metrics.get(name, [])
        if all(one.attributes.get(key) == value for key, value in attributes.items())
    )


def histogram(received: Received, name: str, function: str) -> float:
    (point,) = [
        one
        for one in received.metrics[name]
        if one.attributes["rpc.method"] == f"otel_acts/{function}"
    ]
    assert point.count == 1
    return point.value


def test_calls_over_three_levels_are_one_trace(received: Received) -> None:
    said = run("three_levels", received)
    assert "detach" not in said["stderr"]
    program = received.one("of the program")
    assert program.trace == said["trace"]
    ours = [one for one in received.spans if one.kind in ("CLIENT", "SERVER")]
    assert {one.trace for one in ours} == {said["trace"]}

    def chain(name: str, caller: str, callee: str) -> str:
        """Client below server; gives the id of what the client is below."""
        client = received.one(f"otel_acts/{name}", "CLIENT")
        server = received.one(f"otel_acts/{name}", "SERVER")
        assert server.parent == client.id
        assert (client.actor, server.actor) == (caller, callee)
        assert client.attributes["server.address"] == callee
        assert server.attributes["client.address"] == caller
        assert client.attributes["rpc.method"] == f"otel_acts/{name}"
        assert client.status == server.status == "UNSET"
        return client.parent

    relay = received.one("otel_acts/relay", "SERVER")
    assert chain("relay", "root", "middle") == program.id
    assert chain("nap", "middle", "leaf") == relay.id
    # Made by another task, which the served one has started.
    assert chain("setups", "middle", "leaf") == relay.id
    for name in ("echo", "numbers"):
        assert chain(name, "root", "middle") == program.id
    assert said["baggage"] == {"customer": "blue"}

    # Each call, stream and context once on each side, and nothing of the runtime's own.
    assert len(ours) == 2 * 6
    kinds = {one.name.partition("/")[2]: one.attributes["tractor.dialog.kind"] for one in ours}
    assert (kinds["nap"], kinds["numbers"], kinds["echo"]) == ("call", "stream", "context")
    for side in ("CLIENT", "SERVER"):
        echo = received.one("otel_acts/echo", side).attributes
        assert (echo["tractor.messages.sent"], echo["tractor.messages.received"]) == (3, 3)
    for one in ours:
        assert one.attributes["process.pid"] == one.resource["process.pid"]
        assert one.attributes["tractor.actor.uuid"] == one.resource["service.instance.id"]

    # What slept took as long, and no tenth more; a busy machine may add a little.
    nap = received.one("otel_acts/nap", "SERVER")
    assert 0.4 <= nap.seconds < 0.44 + 0.3
    assert abs(nap.seconds - histogram(received, "rpc.server.call.duration", "nap")) < 0.04
    assert relay.seconds > nap.seconds + 0.4
    echo_client = received.one("otel_acts/echo", "CLIENT")
    echo_server = received.one("otel_acts/echo", "SERVER")
    assert echo_server.seconds >= 0.3
    # Its end is told when the reply is on its way, so the caller may have it a moment earlier.
    assert echo_client.seconds > echo_server.seconds - 0.2

    # A log record of the program's own.
    log = next(one for one in received.logs if one.text == "nap")
    assert (log.trace, log.span) == (nap.trace, nap.id)

    # Metrics of the same run.
    methods = {one.attributes["rpc.method"] for one in received.metrics["rpc.client.call.duration"]}
    assert methods == {
        f"otel_acts/{one}" for one in ("relay", "nap", "setups", "echo", "numbers", "carried")
    }
    echo = {"rpc.method": "otel_acts/echo"}
    for direction in ("transmit", "receive"):
        found = {**echo, "network.io.direction": direction}
        # Of both sides.
        assert total(received, "tractor.stream.messages", **found) == 6
    assert total(received, "tractor.channel.io", **{"network.transport": "unix"}) > 1000
    assert len(received.metrics["tractor.loop.lag"]) == 3
    allowed = {
        "rpc.system.name", "rpc.method", "error.type", "tractor.actor.name", "tractor.actor.state",
        "tractor.outcome", "network.io.direction", "network.transport",
    }  # fmt: skip
    found_keys = {
        key for name, points in received.metrics.items() for one in points for key in one.attributes
        if name.startswith(("rpc.", "tractor."))
    }  # fmt: skip
    assert found_keys <= allowed


def test_errors_and_cancels(received: Received) -> None:
    run("errors", received)
    for side in ("CLIENT", "SERVER"):
        failed = received.one("otel_acts/fail", side)
        assert failed.status == "ERROR"
        assert failed.attributes["error.type"] == "ValueError"
        ((name, event),) = failed.events
        assert name == "exception"
        assert event["exception.message"] == "as it should"
        assert 'raise ValueError("as it should")' in event["exception.stacktrace"]
        for cancelled in ("nap", "echo"):
            span = received.one(f"otel_acts/{cancelled}", side)
            assert span.status == "UNSET"
            assert span.attributes["tractor.cancelled"] is True
            assert span.events == []
    unknown = received.named("_OTHER", "CLIENT")
    assert [one.attributes["rpc.method_original"] for one in unknown] == [
        "otel_acts/no_such",
        "no.such.module/work",
    ]
    assert {one.status for one in unknown} == {"ERROR"}
    types = {
        one.attributes["rpc.method"]: one.attributes.get("error.type")
        for one in received.metrics["rpc.server.call.duration"]
    }
    assert types == {"otel_acts/fail": "ValueError", "otel_acts/nap": None, "otel_acts/echo": None}


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_child_has_its_end_at_its_parent(received: Received) -> None:
    run("killed", received)
    calm, lost = received.named("otel_acts/nap", "CLIENT")
    assert calm.status == "UNSET"
    assert lost.status == "ERROR"
    assert lost.attributes["error.type"] == "tractor.TransportClosed"
    down = received.one("teardown victim")
    assert (down.status, down.status_text) == ("ERROR", "killed by SIGKILL")
    assert down.attributes["process.exit.code"] == -9
    start = received.one("start victim")
    assert (start.status, start.kind) == ("UNSET", "INTERNAL")
    assert start.attributes["tractor.backend"] in ("main_thread_forkserver", "trio")
    assert start.attributes["tractor.start.boot"] > 0
    assert total(received, "tractor.actor.failures", **{"tractor.actor.name": "victim"}) == 1
    assert total(received, "tractor.actors", **{"tractor.actor.name": "victim"}) == 0


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_service_that_is_started_again(received: Received) -> None:
    run("restarted", received)
    restart = received.one("restart answers")
    assert (restart.status, restart.attributes["tractor.restarts"]) == ("UNSET", 1)
    first, second = received.named("start answers")
    assert first.parent == ""
    assert second.parent == restart.id
    assert restart.start <= second.start <= second.end <= restart.end
    assert total(received, "tractor.actor.restarts", **{"tractor.actor.name": "answers"}) == 1


def test_an_asyncio_task_is_in_the_trace(received: Received) -> None:
    said = run("infected", received)
    inner = received.one("in asyncio")
    server = received.one("otel_acts/in_asyncio", "SERVER")
    assert (inner.trace, inner.parent) == (said["trace"], server.id)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_a_forked_actor_has_its_parents_providers_and_its_own_name(received: Received) -> None:
    said = run("forked", received)
    # Its parent's, as of the fork.
    assert said["setups"] == 1
    server = received.one("otel_acts/nap", "SERVER")
    client = received.one("otel_acts/nap", "CLIENT")
    assert server.parent == client.id
    assert (client.actor, server.actor) == ("root", "other")
    assert server.attributes["process.pid"] != client.attributes["process.pid"]
    # Newer SDKs give a copy an instance id of its own.
    same = [{**one.resource, "service.instance.id": ""} for one in (server, client)]
    assert same[0] == same[1]
    log = next(one for one in received.logs if one.text == "nap")
    assert (log.trace, log.span) == (server.trace, server.id)


def test_a_receiver_that_never_answers_holds_nobody_up() -> None:
    """An exporter waits ten seconds for an answer, and tries again."""
    with open_receiver(answers=False) as received:
        said = run("silent", received)
    assert received.spans == []
    # A second each, and what a busy machine adds.
    assert said["subactor"] < 4
    assert said["root"] < 4


def test_what_is_not_sampled_sends_nothing_along(received: Received) -> None:
    said = run("unsampled", received, OTEL_TRACES_SAMPLER="always_off")
    assert said["baggage"] == {}
    assert received.spans == []
    assert histogram(received, "rpc.server.call.duration", "carried") > 0


def test_actors_that_run_already_are_reached(received: Received) -> None:
    said = run("late", received)
    assert "is instrumented for OpenTelemetry already" in said["again"]
    outer = received.one("otel_acts/ask_leaf", "SERVER")
    inner = received.one("otel_acts/nap", "SERVER")
    assert received.one("otel_acts/nap", "CLIENT").parent == outer.id
    assert (outer.actor, inner.actor) == ("other", "leaf")
    assert inner.trace == outer.trace


def test_a_setup_that_fails(received: Received) -> None:
    """In the root it is the caller's error; an actor below serves without."""
    said = run("wrong", received)
    assert said["no_such_module:f"] == "ModuleNotFoundError"
    assert said["otel_acts:no_such"] == "AttributeError"
    assert said["otel_acts"] == "ValueError"
    assert said["3"] == "TypeError"
    assert said["pid"] > 0
    assert "can't be instrumented for OpenTelemetry" in said["stderr"]
    assert "no setup here" in said["stderr"]


def test_the_example_for_a_collector(received: Received) -> None:
    script = PROGRAM.parents[3] / "examples" / "observing" / "telemetry.py"
    done = run_script(str(script), OTEL_EXPORTER_OTLP_ENDPOINT=received.url)
    assert done.stdout == "chopped leek, cooked\n"
    own = received.one("sharpen the knife")
    chop = received.one("__main__/chop", "SERVER")
    cook = received.one("__main__/cook", "SERVER")
    assert own.parent == chop.id
    assert received.one("__main__/chop", "CLIENT").parent == cook.id
    assert {one.resource["service.name"] for one in received.spans} == {"kitchen"}
    assert own.resource["tractor.actor.name"] == "helper"


def test_the_variables_that_lead_to_sentry(received: Received) -> None:
    """What its page says, of a receiver that is not Sentry: the path, and the header."""
    path = "/api/7/integration/otlp/v1/traces"
    run(
        "unsampled",
        received,
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=received.url + path,
        OTEL_EXPORTER_OTLP_TRACES_HEADERS="x-sentry-auth=sentry sentry_key=abc",
    )
    assert received.one("otel_acts/carried", "SERVER").actor == "other"
    sent = {key.lower(): value for one, key, value in received.headers if one == path}
    assert sent["x-sentry-auth"] == "sentry sentry_key=abc"
