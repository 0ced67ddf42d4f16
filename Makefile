# Every command a contributor or a CI machine needs. `make help` lists them; docs/development.md explains them.
#
# PYTHON chooses the interpreter that makes the virtual environment, e.g. `make install PYTHON=python3.12`. TEST_JOBS is
# the number of processes that `make test` runs tests in, each with local servers of its own.

PYTHON ?= python3
TEST_JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test check integration docs format lock bench clean

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## Make .venv with the locked dependencies and the `sentinel` command

# pyproject.toml is a prerequisite because it declares the `sentinel` command. The environment is made anew when it
# is absent or broken, or when it is of a Python that the lock does not cover.
$(STAMP): requirements.lock pyproject.toml
	@if ! $(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	  command -v $(PYTHON) >/dev/null || { \
	    echo 'error: $(PYTHON) is not installed. On Debian: apt install python3 python3-venv' >&2; exit 1; }; \
	  $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	    echo "error: Python 3.11, 3.12 or 3.13 is needed and $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	      "Name another one: make install PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo 'error: $(PYTHON) cannot make virtual environments. On Debian: apt install python3-venv' >&2; exit 1; }; \
	  echo "making $(VENV) with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv --clear $(VENV); \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## Start everything on this machine and watch it work
	$(BIN)/sentinel demo

test: install  ## All tests but the integration suite; needs no network and nothing but .venv
	$(BIN)/python -m pytest tests --ignore tests/integration --numprocesses $(TEST_JOBS) --dist loadfile

check: install  ## Formatting, lint, types and the dependency rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

integration: install  ## The tests against Apache Kafka, Redis and a Redis Cluster (needs Java 17, Maven, redis-server)
	$(BIN)/python -m pytest tests/integration

docs: install  ## Write the pages and tables of docs/ that repeat what the code says
	$(BIN)/python -m tests.builders.pages

format: install  ## Format the code and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The lock serves every supported Python and platform, and must not name the registry it was made with.
lock: install  ## Make requirements.lock anew from pyproject.toml, with the newest versions it allows
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links --group dev pyproject.toml \
	  --output-file build/requirements.lock
	@if grep -nE '://|^-|^\.|^/' build/requirements.lock; then \
	  echo 'error: the new lock names an address (see above); requirements.lock is unchanged' >&2; exit 1; fi
	mv build/requirements.lock requirements.lock

bench: install  ## Measure throughput and latency on this machine, end to end
	$(BIN)/sentinel bench pipeline

clean:  ## Remove .venv and everything that tools made; keeps .sentinel, the demo's data
	rm -rf $(VENV) build bench-results .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
