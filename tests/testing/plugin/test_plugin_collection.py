"""Markers, async tests, and tests that run in a root actor."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def default_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the suite runs on another one, which is in the environment then."""
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)
    # The plugin is named; loading what else is installed is half of a session's start.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


PLUGIN = ("-p", "tractor.testing.pytest", "-p", "no:cacheprovider", "--strict-markers")


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(*PLUGIN, *arguments, timeout=30)


def test_markers_skip(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.skipon_spawn_backend("subint", "trio", reason="told why")
        def test_backend(): raise AssertionError

        @pytest.mark.skipon_spawn_backend("subint", "mp_spawn")
        def test_other_backend(): pass

        @pytest.mark.skipon_spawn_backend("trio")
        class TestClass:
            def test_backend(self): raise AssertionError

        @pytest.mark.no_tpt("tcp")
        def test_transport(tpt_proto): raise AssertionError

        @pytest.mark.no_tpt("tcp")
        def test_transport_of_the_session(): raise AssertionError

        @pytest.mark.no_tpt("uds")
        def test_other_transport(tpt_proto): pass

        @pytest.mark.ctlcs_bish(1 == 1, True)
        @pytest.mark.parametrize("ctlc", [True, False])
        def test_ctrl_c(ctlc): assert not ctlc

        @pytest.mark.ctlcs_bish(True, False)
        @pytest.mark.parametrize("ctlc", [True])
        def test_ctrl_c_is_fine_here(ctlc): pass

        @pytest.mark.has_nested_actors
        def test_nested(): pass
        """
    )
    result = run(pytester, "-rs", "--tpt-proto=tcp")
    result.assert_outcomes(passed=5, skipped=5)
    result.stdout.fnmatch_lines_random(
        [
            "*told why*",
            "*not for spawn backend 'trio'*",
            "*not for transport 'tcp'*",
            "*ctrl-c does not end this one reliably here*",
        ]
    )


def test_a_module_may_be_marked_and_wrong_keys_are_found_wherever_they_are(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        test_good="""
        import pytest
        pytestmark = pytest.mark.skipon_spawn_backend("trio")
        def test_it(): raise AssertionError
        """
    )
    run(pytester).assert_outcomes(skipped=1)
    pytester.makepyfile(
        test_module="""
        import pytest
        pytestmark = pytest.mark.skipon_spawn_backend("trioo")
        def test_it(): raise AssertionError
        """,
        test_class="""
        import pytest
        @pytest.mark.skipon_spawn_backend("subinterpreter")
        class TestIt:
            def test_it(self): raise AssertionError
        """,
        test_function="""
        import pytest
        @pytest.mark.skipon_spawn_backend()
        def test_it(): raise AssertionError
        @pytest.mark.no_tpt("pigeon")
        def test_that(): raise AssertionError
        """,
    )
    # Deselected tests are checked, too.
    result = run(pytester, "-k", "test_good")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines_random(
        [
            "*test_module.py::test_it: skipon_spawn_backend() has the unknown *'trioo'*subint_fork*",
            "*test_class.py::TestIt::test_it*'subinterpreter'*",
            "*test_function.py::test_it: skipon_spawn_backend() has no key*",
            "*test_function.py::test_that: no_tpt() has the unknown *'pigeon'*tcp*",
        ]
    )


def test_async_tests_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        import tractor
        import trio

        @pytest.mark.trio
        async def test_plain(tmp_path):
            await trio.sleep(0)
            assert tractor.current_actor(err_on_no_runtime=False) is None
            assert tmp_path.exists()

        @pytest.mark.trio
        def test_not_async():
            pass
        """
    )
    result = run(pytester, "-p", "no:trio")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_not_async has the marker `trio`, but is not async*"])


def test_a_root_actor_is_booted_by_the_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        import tractor
        import trio
        from tractor.testing import tractor_test

        roots = []

        def check_root(request):
            actor = tractor.current_actor()
            assert actor.reg_addrs == [request.getfixturevalue("reg_addr")]
            assert actor.loglevel == "critical"
            vars = tractor.get_runtime_vars()
            assert vars["_enable_tpts"] == ["tcp"]
            assert vars["_debug_mode"] is False

        @tractor_test
        async def test_takes_none_of_them(request):
            check_root(request)

        @pytest.mark.trio
        @tractor_test(timeout=7)
        async def test_takes_them(
            reg_addr, loglevel, start_method, debug_mode, tpt_proto, request, tmp_path
        ):
            check_root(request)
            assert trio.current_effective_deadline() <= trio.current_time() + 7
            assert tractor.current_actor().reg_addrs == [reg_addr]

        class TestClass:
            @pytest.mark.parametrize("word", ["a", "b"])
            @tractor_test
            async def test_method(self, word, request):
                check_root(request)
                async with tractor.open_nursery() as an:
                    await an.start_actor(word)
                    await an.cancel()

        @tractor_test
        async def test_failure():
            raise LookupError("out of the test")
        """
    )
    result = run(pytester, "-v", "--tpt-proto=tcp", "--ll=critical")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines_random(
        [
            "*::test_takes_none_of_them[[]trio-tcp[]] PASSED*",
            "*::test_method[[]a-trio-tcp[]] PASSED*",
            "E*LookupError: out of the test",
        ]
    )
    # Frames of the helper and of the runtime are not help in finding the fault.
    result.stdout.no_fnmatch_line("*_runner.py*")


def test_own_fixtures_beat_those_of_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        from tractor.testing import get_rando_addr

        @pytest.fixture(params=["tcp"])
        def tpt_proto(request):
            return request.param

        @pytest.fixture
        def reg_addr():
            return get_rando_addr("tcp")
        """
    )
    pytester.makepyfile(
        """
        import tractor
        from tractor.testing import tractor_test

        @tractor_test
        async def test_it(reg_addr, tpt_proto):
            assert tractor.current_actor().reg_addrs == [reg_addr]
            assert reg_addr[0] == "127.0.0.1"
            assert tpt_proto == "tcp"
        """
    )
    run(pytester).assert_outcomes(passed=1)
