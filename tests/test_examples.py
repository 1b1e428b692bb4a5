"""Every script of `examples/` is run as a user would run it."""

from __future__ import annotations

import ast
import functools
import importlib.util
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

TIME_LIMIT = 100
"""Seconds that a script may take; on a free machine the longest takes 12."""

pytestmark = pytest.mark.timeout(TIME_LIMIT + 10)

# They have tests of their own.
ELSEWHERE = ("debugging", "observing", "tutorial", "recipes", "coming_from")

WAITS_FOR_CTRL_C = "integration/open_context_and_sleep.py"

NEEDS = {
    "parallelism/images.py": "numpy",
    "integration/mpi4py/inherit_parent_main.py": "mpi4py",
    "shared_array.py": "numpy",
    "reference/shared_memory.py": "numpy",
    "typed_arrays.py": "numpy",
    "infected_asyncio_websockets.py": "websockets",
    "services/a_feed_behind_a_web_app.py": "hypercorn",
    "parallelism/table.py": "polars",
    "parallelism/futures_table.py": "polars",
    "parallelism/joblib_table.py": "joblib",
}

POSIX_ONLY = (
    "actor_with_a_database.py",
    "uds_transport_actor_tree.py",
    "multi_transport.py",
    "endpoint_table.py",
    "services/run_a_file.py",
    "hosts/from_one_machine_to_two.py",
    "parallelism/images.py",
    "parallelism/worker_pool.py",
    "shared_array.py",
    "trace_of_a_pipeline.py",
    "reference/debugger_tools.py",
    "reference/shared_memory.py",
    "reference/testing_tools.py",
    "parallelism/table.py",
    "parallelism/futures_table.py",
    "parallelism/joblib_table.py",
    "services/a_restart_under_load.py",
    "services/multiprocessing_service.py",
)

PRINTS = {
    "a_trynamic_first_scene.py": [
        r"^Action!$",
        r"^Hello vera, I am theo\.$",
        r"^Hello theo, I am vera\.$",
        r"^Cut!",
    ],
    "actor_with_a_database.py": [
        r"^tea is on its way\nrice is on its way\nno new requests are taken$",
        r"^tea\? A good choice\.$",
        r"^goodbye$",
        r"^the shop is closed, 2 orders were booked$",
    ],
    "actor_spawning_and_causality.py": [r"^What a beautiful pair of words\.$"],
    "actor_spawning_and_causality_with_daemon.py": [r"^(About six .* tons\.)\n\1$"],
    "advanced_faults/ipc_failure_during_stream.py": [r"^parent saw .*TransportClosed; the child"],
    "asynchronous_generators.py": [r"^0$", r"^49$", r"^stream terminated$"],
    "endpoint_table.py": [
        r"^quotes answers at /ip4/127\.0\.0\.1/tcp/\d+$",
        r"^quotes answers at /unix/.*quotes\.sock$",
        r"^weather answers at /unix/",
        r"^quotes was found over tcp\nquotes was found over uds$",
        r"^weather over tcp: None$",
        r"takes uds$",
    ],
    "full_fledged_streaming_service.py": [
        r"^streamer_1 has sent 1000 numbers$",
        r"^streamer_2 has sent 1000 numbers$",
        r"^1000 numbers received, 1000 duplicates removed$",
        r"^stream time .* total time ",
    ],
    "hosts/from_one_machine_to_two.py": [
        r"^lost: HostLost$",
        r"^\d+ to be counted again$",
        r"^4920 words of 4920$",
    ],
    "infected_asyncio_echo_server.py": [
        r"^the echo task runs$",
        r"^1000 checked round trips, [\d,]+ a second$",
    ],
    "infected_asyncio_websockets.py": [
        r"^STRUCTURED CONCURRENCY ACROSS EVENT LOOPS$",
        r"^the client closed its connection\nthe server was cancelled$",
    ],
    "trace_of_a_pipeline.py": [
        r"^trace\.json: \d+ events of 3 actors in 2\.\d s, ",
        r"^brew: [1-9]\d* calls, the longest took \d+ ms$",
        r"^grind: [1-9]\d* calls, the longest took ([6-9]\d|\d{3,}) ms$",
    ],
    "tls_actor_tree.py": [r"^the child is connected by MsgpackTLSStream$", r"turned away$"],
    "multi_transport.py": [r"^tcp .*I can hear", r"^uds .*I can hear", r"prefers uds$"],
    "multiple_streams_one_portal.py": [r"^both got the same values$"],
    "nested_actor_tree.py": [r"^\[1, 4, 9, 16\]$"],
    "parallelism/concurrent_actors_primes.py": [r"^112272535095293 is prime$", r"^start .* total"],
    "parallelism/concurrent_futures_primes.py": [r"^112272535095293 is prime$", r"total with"],
    "parallelism/pipeline.py": [
        r"^functions in json: [1-9]\d+$",
        r"^SyntaxError in parser@\d+: .*worse\.py, line 1",
    ],
    "parallelism/multiprocessing_pipeline.py": [
        r"^functions in json: [1-9]\d+$",
        r"^SyntaxError: .*worse\.py, line 1",
    ],
    **{
        f"parallelism/{name}.py": [
            r"^5 of 6 are measured$",
            rf"^lost: {error}$",
            r"^the table has \[0, 2, 3, 4, 5\]$",
        ]
        for name, error in (
            ("table", "WorkerDied"),
            ("futures_table", "BrokenProcessPool"),
            ("joblib_table", "TerminatedWorkerError"),
        )
    },
    "parallelism/single_func.py": [r"^collected the pid \d+ "],
    "parallelism/images.py": [
        r"^1 of 7  cat: mean 0, edges \(599, 600\)\n2 of 7  flaky: mean 1, .*\n3 of 7  dog: mean 2, ",
        r"^4 of 7  failed: ValueError, item 3 of __main__:summarize: 'broken' was tried 2 times$",
        r"^5 of 7  lost: WorkerDied, item 4 of __main__:summarize: 'poisoned'$",
        r"^6 of 7  lost: ItemTimeout, item 5 of __main__:summarize: 'endless'$",
        r"^7 of 7  owl: mean 6, .*\nworkers that were replaced: True$",
    ],
    "parallelism/worker_pool.py": [
        r"^primes: \[2, 3, 5, 7, 11, 13, 17, 19\]$",
        r"^the first factorial over a million: 3628800$",
        r"^ZeroDivisionError in root\.worker_\d: item 3 of __main__:reciprocal: 0$",
        r"^cancelled; it does not run on: 0 jobs are out$",
        r"^a worker died with __main__:die\(\)\nand the pool goes on: True$",
    ],
    "parallelism/we_are_processes.py": [
        r"^worker_0 lives in process \d+$",
        r"^the root fails in 2 s$",
        r"everything was contained",
    ],
    "price_feed.py": [
        r"^connected to NOWHERE$",
        r"^recorder: without a gap\? True$",
        r"^screen: has it left some out\? True$",
        r"^average: in order\? True, and it knows what it has lost$",
        r"^disconnected from NOWHERE$",
    ],
    "publish_subscribe.py": [
        r"^the station opens$",
        r"^Oslo: 22 degrees in Oslo$",
        r"^Oslo and Rome: 22 degrees in Rome$",
        r"^the station closes$",
        r"^nobody listens any more$",
    ],
    "quick_cluster.py": [r"worker_0 is \('.*worker_0', '.+'\)$", r"^the cluster was cancelled$"],
    "remote_error_propagation.py": [r"\Aunlucky failed with a ZeroDivisionError.*\n\Z"],
    "ring.py": [r"^200 frames, [\d.]+ GB/s$"] if sys.platform == "linux" else [r"^rings need"],
    "rpc_bidir_streaming.py": [r"^first = 11, pings = 10$"],
    "secured_service.py": [
        r"^welcome, friend$",
        r"^stranger is out: .*holds another key",
        r"^the service goes on: welcome, root$",
    ],
    "service_daemon_discovery.py": [
        r"^client_0 was served ACME: 42\.00$",
        r"^no_such_service: nobody",
        r"^shutting down quote_service\neverything is shut down$",
    ],
    "service_discovery.py": [
        r"^the registrar's channel: ",
        r"^the portal that was found: ",
        r"^I am some_service",
    ],
    "several_registrars.py": [
        r"^both are there: ACME: 42\.00\n"
        r"the first is gone: ACME: 42\.00\n"
        r"both are gone: no registrar answers\n"
        r"the first is back: ACME: 42\.00$",
    ],
    "shared_array.py": [
        r"^32 MB are shared$",
        r"^after 1,000,000 rows the mean is 10\nafter 2,000,000 rows the mean is 15$",
    ],
    "services/run_a_file.py": [
        r"^welcome to the corner shop: 6 apples$",
        r"^one was killed: welcome to the corner shop: 6 apples\nchanged: web\nwelcome back to the",
        r"^the stock has noticed nothing: True\nall were stopped in order, exit status 0$",
    ],
    "services/three_levels.py": [
        r"^one sensor was restarted, its neighbour noticed nothing$",
        r"^a line gave up on its sensor, and was restarted as a whole$",
        r"^the plant itself is in its incarnation 1$",
    ],
    "services/three_registrars.py": [
        r"^all are there: ACME: 42\.00\n(?:two are killed: ACME: 42\.00\n?){2}$",
    ],
    "services/a_restart_under_load.py": [r"^no request was lost, 5 processes have answered$"],
    "services/multiprocessing_service.py": [r"^no request was lost, 5 processes have answered$"],
    "services/a_leak_is_recycled.py": [r"^a replica was recycled\nno request was lost$"],
    "services/a_feed_behind_a_web_app.py": [r"^50 pages while one was down$"],
    "stream_backpressure.py": [
        r"^nobody reads: the sender waits after 1024 of 3000 messages$",
        r"^all 3000 values arrived in order",
    ],
    "streaming_broadcast_fanout.py": [
        rf"^{name} has the complete list \[0, 1, 2, 3, 4\]$" for name in ("ann", "ben", "cid")
    ],
    "trio/lockacquire_not_unmasked.py": [
        r"^the wait ended with Cancelled, whose context is WouldBlock$",
        r"^plain cancellation: nothing was raised$",
    ],
    "trio/send_chan_aclose_masks_beg.py": [
        r"^masked: +nothing was raised",
        r"^unmasked: raised: could not clean up",
    ],
    "typed_arrays.py": [
        r"^frame-2\.blurred: float32 \[\[1\.0, 1\.0, 1\.0\]",
        r"^refused by its reader: ValidationError\n.*expected an array of float32",
    ],
    "typed_calls.py": [
        r"^5\.50 2026-12-14 \{'gift'\}$",
        r"^here: __main__:order is missing a required argument: 'placed'",
        r"^there: invalid `Start` msg payload: the argument 'placed' of __main__:order$",
        r"^failed: 0 lines can't be printed in main\(\)$",
        r"^Hello Ann\n\.txt$",
    ],
    "typed_dialog.py": [
        r"^opened for ada$",
        r"^Withdraw\(amount=80\): 50 \(refused\)$",
        r"^ada leaves with 30, after \[50, -20\]$",
        r"^refused by bank: .*'pld': \{'withdraw': 'all'\}",
    ],
    "typed_payloads.py": [
        r"^refused before it was sent:",
        r"^Point\(x=2, y=2\)\nPoint\(x=4, y=8\)\nPoint\(x=6, y=18\)$",
    ],
    "uds_transport_actor_tree.py": [r"^protocol: +uds$", r"^the child listens on: .*\.sock in "],
}
"""Patterns that must be found in what a script prints, in any order."""


def scripts() -> list[str]:
    """The scripts, relative to `examples/`; names that begin with an underscore are none."""
    found = (path.relative_to(EXAMPLES) for path in EXAMPLES.rglob("*.py"))
    return sorted(
        path.as_posix()
        for path in found
        if not path.name.startswith("_") and path.parts[0] not in ELSEWHERE
    )


def skip_reason(script: str) -> str | None:
    needed = NEEDS.get(script)
    if needed and importlib.util.find_spec(needed) is None:
        return f"needs {needed}, which is not installed"
    if script in POSIX_ONLY and os.name != "posix":
        return "no Unix sockets on this platform"
    return None


def run(*command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )


@functools.cache
def outcome_of(script: str) -> subprocess.CompletedProcess[str]:
    """How a script has ended, once for all tests, in a directory in which it has left nothing."""
    with tempfile.TemporaryDirectory() as directory:
        done = run(str(EXAMPLES / script), cwd=Path(directory))
        assert os.listdir(directory) == []
    return done


def check(done: subprocess.CompletedProcess[str]) -> None:
    """What holds for each script."""
    report = f"exit code {done.returncode}\n{done.stdout}\n--- stderr\n{done.stderr}"
    assert done.returncode == 0, report
    last_line = done.stderr.strip().rpartition("\n")[2]
    assert "Error" not in last_line, report


@pytest.mark.parametrize("script", [s for s in scripts() if s != WAITS_FOR_CTRL_C])
def test_script(script: str) -> None:
    if reason := skip_reason(script):
        pytest.skip(reason)

    done = outcome_of(script)

    check(done)
    for pattern in PRINTS.get(script, []):
        assert re.search(pattern, done.stdout, re.MULTILINE), f"{pattern}\nnot in\n{done.stdout}"


def test_expectations_are_about_existing_scripts() -> None:
    assert set(PRINTS) | {WAITS_FOR_CTRL_C, *NEEDS, *POSIX_ONLY} <= set(scripts())


@pytest.mark.parametrize("script", scripts())
def test_script_teaches_and_runs_main(script: str) -> None:
    text = (EXAMPLES / script).read_text()

    assert text.startswith('"""')
    assert "What to learn" in text
    assert text.endswith('\n\nif __name__ == "__main__":\n    trio.run(main)\n')


def code_lines(script: str) -> int:
    """Lines of code, one a statement as `ast` writes it: no comments, docstrings or imports."""
    tree = ast.parse((EXAMPLES / script).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
            kept = [
                statement
                for statement in node.body
                if not isinstance(statement, ast.Import | ast.ImportFrom)
                and not (
                    isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
                )
            ]
            node.body[:] = kept or [ast.Pass()]
    return sum(bool(line.strip()) for line in ast.unparse(tree).splitlines())


def test_a_pipeline_is_shorter_than_on_multiprocessing() -> None:
    ours, theirs = "parallelism/pipeline.py", "parallelism/multiprocessing_pipeline.py"
    counted = [
        re.search(r"^functions in json: (\d+)$", outcome_of(script).stdout, re.MULTILINE)
        for script in (ours, theirs)
    ]
    assert None not in counted
    assert len({found[1] for found in counted if found is not None}) == 1
    assert code_lines(ours) < 0.7 * code_lines(theirs)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("parallelism/table.py", "parallelism/futures_table.py"),
        ("parallelism/table.py", "parallelism/joblib_table.py"),
        ("services/a_restart_under_load.py", "services/multiprocessing_service.py"),
    ],
)
def test_a_program_is_shorter_than_in_another_library(ours: str, theirs: str) -> None:
    # That both do the same is told by what they print, above.
    assert code_lines(ours) < 0.7 * code_lines(theirs)


def test_tree_comes_down_leaves_first() -> None:
    lines = outcome_of("nested_actor_tree.py").stdout.splitlines()

    def position(start: str) -> int:
        (found,) = [at for at, line in enumerate(lines) if line.startswith(start)]
        return found

    for team, leaves in (("team_a", (1, 2)), ("team_b", (3, 4))):
        for number in leaves:
            leaf = f"{team}.leaf_{number}"
            assert position(f"{leaf} squares {number}") < position(f"{leaf} ends")
            assert position(f"{leaf} ends") < position(f"{team} ends")
        assert position(f"{team} ends") < position("root: the teams are gone")


def test_leaving_a_stream_ends_its_generator_first(tmp_path: Path) -> None:
    out = run(
        str(EXAMPLES / "asynchronous_generators.py"), cwd=tmp_path, PYTHONUNBUFFERED="1"
    ).stdout

    assert out.index("stream terminated") < out.index("took 50 values")


def test_copied_script_runs_by_name(tmp_path: Path) -> None:
    # What Windows' spawn rules need: main module and script are two modules.
    folder = tmp_path / "examples"
    folder.mkdir()
    shutil.copy(EXAMPLES / "__main__.py", folder)
    shutil.copy(EXAMPLES / "actor_spawning_and_causality.py", folder / "test_example.py")

    done = run("-m", "examples", cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1")

    check(done)
    assert done.stdout == "What a beautiful pair of words.\n"


# -- scripts of the other folders --


def interrupt_when(script: Path, shown: str, *, whole_group: bool) -> tuple[int, str, str]:
    """Run a script, press ctrl-c once it has printed *shown*; exit code, stdout and stderr.

    A terminal's ctrl-c goes to parent and children alike; without *whole_group* to the parent only.
    """
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if shown in line:
                    break
            (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=TIME_LIMIT)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, out, err


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process group")
@pytest.mark.parametrize("whole_group", [True, False])
def test_sleeping_context_ends_on_ctrl_c(whole_group: bool) -> None:
    code, out, err = interrupt_when(
        EXAMPLES / WAITS_FOR_CTRL_C, "press ctrl-c", whole_group=whole_group
    )

    assert code == 0, err
    assert "ended by ctrl-c, the child is gone" in out
    assert "Error" not in err.strip().rpartition("\n")[2]


FAULT = """
import json, sys, trio
sys.path.insert(0, {folder!r})
import ipc_failure_during_stream as script
from functools import partial

if __name__ == "__main__":
    for arguments in json.loads({calls!r}):
        trio.run(partial(script.main, **arguments))
"""


BREAKERS = {"parent": (20, None), "child": (None, 20), "both": (20, 20)}
METHODS = ("socket_close", "socket_eof")
FAULTS = [
    # Each pair of choices comes up on one transport or the other, each single choice on both.
    (*choices, ("tcp", "uds")[sum(indices) % 2])
    for choices, indices in zip(
        itertools.product(BREAKERS, METHODS, (False, True)),
        itertools.product(range(3), range(2), range(2)),
        strict=True,
    )
]


def fault_script(folder: Path, *calls: dict[str, object]) -> Path:
    """A program that calls the script's `main()` with each of these sets of arguments in turn."""
    path = folder / "fault.py"
    path.write_text(FAULT.format(folder=str(EXAMPLES / "advanced_faults"), calls=json.dumps(calls)))
    return path


def test_broken_connection_ends_both_sides(tpt_proto: str, tmp_path: Path) -> None:
    """All ways to break it, one after the other in one program, which must be none the worse for it."""
    faults = [fault for fault in FAULTS if fault[-1] == tpt_proto]
    assert len(faults) == 6
    calls: list[dict[str, object]] = [
        {
            "break_parent_after": BREAKERS[breaker][0],
            "break_child_after": BREAKERS[breaker][1],
            "method": method,
            "pre_close": pre_close,
            "transport": transport,
        }
        for breaker, method, pre_close, transport in faults
    ]

    done = run(str(fault_script(tmp_path, *calls)), cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1")

    check(done)
    *reports, rest = re.split(r"^parent saw (.*); the child is gone\n", done.stdout, flags=re.M)
    assert rest == ""
    assert len(reports) == 2 * len(faults), done.stdout
    for fault, before, seen in zip(faults, reports[::2], reports[1::2], strict=True):
        breaker, _, pre_close, _ = fault
        names = seen.split(", then ")
        assert names[-1] == "TransportClosed", fault
        # Where both break it, the one may lose the connection before it closed its stream.
        if pre_close and breaker != "both":
            first = {"parent": "ClosedResourceError", "child": "EndOfChannel"}[breaker]
            assert names[0] == first, fault
        assert re.search(r"^child saw TransportClosed$", before, re.MULTILINE), (fault, before)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process group")
@pytest.mark.parametrize("whole_group", [True, False])
def test_endless_talk_ends_on_ctrl_c(whole_group: bool, tpt_proto: str, tmp_path: Path) -> None:
    script = fault_script(tmp_path, {"break_child_after": None, "transport": tpt_proto})

    code, _, err = interrupt_when(script, "begins to talk", whole_group=whole_group)

    assert code == -signal.SIGINT, err
    assert err.rstrip().endswith("KeyboardInterrupt")
