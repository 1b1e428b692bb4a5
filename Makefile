# Every target makes what it needs: a clean clone with nothing but Python 3.11+ and make is enough.
#
#   make demo                      the main job, on real input
#   make test ARGS='-k stream'     the test suite, or a part of it
#   make test-quick                a minute of it
#   make test VENV=.venv-3.13 PYTHON=python3.13      on another Python, in a venv of its own
#
# pip takes its settings (index, proxy, certificates) from the environment and its own configuration.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Processes that share the tests of the whole suite or of a set. Each waits for half of its time, so there are two for a
# CPU, up to 8. With 0 pytest runs them itself, which is quicker for the few that ARGS may choose.
JOBS ?= $(if $(ARGS),0,$(shell cpus=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN); echo $$((cpus < 4 ? 2 * cpus : 8))))

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder
SOURCES := $(wildcard src tests examples benches docs)

# A starting actor imports the package. Where byte code may not be written it would be compiled anew in each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv demo demo-hosts test test-quick test-version test-hosts check format bench bench-smoke backends churn registrar-storm rolling kill-storm shm-storm storm chaos chaos-hosts debug-matrix asyncio-kills hostile fuzz faults frozen docs docs-pictures dist-check news clean

help:
	@echo 'make demo | demo-hosts | test | test-quick | test-version | test-hosts | check | bench | bench-smoke | backends | churn | registrar-storm | rolling | kill-storm | shm-storm | storm | chaos | chaos-hosts | debug-matrix | asyncio-kills | hostile | fuzz | faults | frozen | docs | docs-pictures | dist-check | format | news | clean'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# What a venv has from when the package was still installed as `tractor`: it would take the commands with it.
FORMER = $(BIN)/python -m pip --disable-pip-version-check uninstall --quiet --yes tractor 2>/dev/null

# A dependency group as a requirements file: the pip of Python 3.11 to 3.13 can't read groups itself.
GROUP = @$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["$(1)"], sep="\n")' >$(VENV)/$(1).txt

# The three stamps: what running, developing and the documentation need.
$(VENV)/.stamp-run: pyproject.toml | $(BIN)/python
	@$(FORMER)
	$(PIP) --editable .
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml | $(BIN)/python
	@$(FORMER)
	$(call GROUP,dev)
	$(PIP) --editable '.[titles,testing,certs,top,dash,otel]' --requirement $(VENV)/dev.txt
	@# A dependency of multiaddr that it does not import; its stubs, years old, would replace trio's own types.
	$(BIN)/python -m pip --disable-pip-version-check uninstall --quiet --yes trio-typing
	@touch $(VENV)/.stamp-run $@

$(VENV)/.stamp-docs: pyproject.toml | $(BIN)/python
	@$(FORMER)
	$(call GROUP,docs)
	$(PIP) --editable . --requirement $(VENV)/docs.txt
	@touch $(VENV)/.stamp-run $@

venv: $(VENV)/.stamp-dev

demo: $(VENV)/.stamp-run
	$(BIN)/python -m tractor.demo $(ARGS)

# The same work on three hosts, which are namespaces of this machine: Linux, root, `openssh-server iproute2`.
demo-hosts: $(VENV)/.stamp-run
	$(BIN)/python tests/hosts/demo.py

test: $(VENV)/.stamp-dev
	$(PYTEST) $(ARGS)

test-quick: $(VENV)/.stamp-dev
	$(PYTEST) --set quick $(ARGS)

# Those over hosts, in their long form: on Linux, as root, with what the skip of a test names.
test-hosts: $(VENV)/.stamp-dev
	$(PYTEST) -m hosts --soak -o timeout=120 tests/hosts $(ARGS)

test-version: $(VENV)/.stamp-dev
	$(PYTEST) --set quick,version $(ARGS)

check: $(VENV)/.stamp-dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy $(filter-out docs,$(SOURCES))
	@# What exists on other systems only, or is missing there, is told by their types.
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin src
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 src
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: $(VENV)/.stamp-dev
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(VENV)/.stamp-dev
	$(BIN)/python -m benches $(ARGS)

bench-smoke: $(VENV)/.stamp-dev
	$(BIN)/python -m benches --smoke $(ARGS)

backends: $(VENV)/.stamp-dev
	$(BIN)/python tests/spawn/backend_table.py $(ARGS)

churn: $(VENV)/.stamp-dev
	$(BIN)/python tests/discovery/churn.py $(ARGS)

registrar-storm: $(VENV)/.stamp-dev
	$(BIN)/python tests/discovery/registrar_storm.py $(ARGS)

rolling: $(VENV)/.stamp-dev
	$(BIN)/python tests/services/rolling.py $(ARGS)

kill-storm: $(VENV)/.stamp-dev
	$(BIN)/python tests/spawn/kill_storm.py $(ARGS)

shm-storm: $(VENV)/.stamp-dev
	$(BIN)/python tests/shm/shm_storm.py $(ARGS)

storm: $(VENV)/.stamp-dev
	$(BIN)/python tests/services/services_storm.py $(ARGS)

chaos: $(VENV)/.stamp-dev
	$(BIN)/python tests/chaos/chaos.py $(ARGS)

# Over three hosts, which are namespaces of this machine: Linux, root, `openssh-server iproute2`.
chaos-hosts: $(VENV)/.stamp-dev
	$(BIN)/python tests/hosts/hosts_chaos.py $(ARGS)

hostile: $(VENV)/.stamp-dev
	$(BIN)/python tests/hostile/figures.py $(ARGS)

fuzz: $(VENV)/.stamp-dev
	$(PIP) 'atheris>=3.0'
	$(BIN)/python tests/fuzz/fuzz.py $(ARGS)

faults: $(VENV)/.stamp-dev
	$(BIN)/python tests/faults/faults.py $(ARGS)

debug-matrix: $(VENV)/.stamp-dev
	$(BIN)/python tests/devx/pty_matrix.py $(ARGS)

frozen: $(VENV)/.stamp-dev
	$(PIP) 'pyinstaller>=6.9'
	$(BIN)/python tests/spawn/frozen_program.py $(ARGS)

asyncio-kills: $(VENV)/.stamp-dev
	$(BIN)/python tests/to_asyncio/kill_points.py $(ARGS)

docs: $(VENV)/.stamp-docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo 'docs/_build/html/index.html'

# What the guide shows of `tractor top` and `tractor dash`, taken anew; the documentation's own pages into docs/_build/pictures.
# It needs Chromium and its driver: `apt-get install chromium chromium-driver`.
docs-pictures: $(VENV)/.stamp-dev
	$(BIN)/python tests/pictures/take_pictures.py $(ARGS)

# Both distributions are built and looked at, and the wheel is installed where nothing else is.
dist-check: $(BIN)/python
	$(call GROUP,dist)
	$(PIP) --requirement $(VENV)/dist.txt
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist . >/dev/null
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(PYTHON) -m venv --clear dist/venv
	dist/venv/bin/python -m pip --disable-pip-version-check install --quiet dist/*.whl
	cd dist && venv/bin/python -I -c 'import tractor; assert "site-packages" in tractor.__file__, tractor.__file__; print(tractor.__version__)'
	dist/venv/bin/tractor --version
	rm -rf dist/venv

news: $(VENV)/.stamp-dev
	$(BIN)/towncrier build --draft --version next

clean:
	rm -rf $(VENV) docs/_build docs/api build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests examples benches docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
