# make demo: the main job end to end. make test: tests, lint and types.
# make test-all: those, and what takes longer or needs other people's programs.
# make docs: what documents derive from the code, and the site of them in build/site.
# make dist: a wheel and an sdist in dist.
# Each makes .venv and install the locked environment first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch's default build for Linux carries several GB of CUDA; the tests need none of it.
STAMP := $(VENV)/.installed
# A file's tests share what is dear to make; tests/conftest.py puts the longest files first.
# Where a worker dies the run ends and says so: pytest-xdist would wait for ever for one started anew.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: demo test test-all lint types docs dist install clean

install: $(STAMP)

$(STAMP): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/python -m benchmarks.demo

test: lint types
	$(PYTEST)

test-all: lint types
	$(PYTEST) -m ''

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m docs.derive --check

types: install
	$(BIN)/mypy

docs: install
	$(BIN)/python -m docs.derive
	$(BIN)/python -m sphinx --builder html --fail-on-warning --nitpicky --doctree-dir build/doctrees \
		--quiet docs build/site

dist: install
	$(BIN)/python -m build --no-isolation --outdir dist .

clean:
	rm -rf $(VENV) demo build dist docs/generated *.egg-info
