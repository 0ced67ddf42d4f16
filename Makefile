# All commands for contributors and CI. `make help` lists them; docs/development.md explains them.
#
# PYTHON selects the interpreter for the virtual environment, e.g. `make install PYTHON=python3.12`. TEST_JOBS is the
# number of test processes of `make test`; each has its own local servers.

PYTHON ?= python3
TEST_JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNNABLE := $(VENV)/.runnable

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install run demo test check integration docs site format lock image sbom pin bench dist clean

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## Create .venv with the locked dependencies and the `sentinel` command

$(STAMP): requirements.lock $(RUNNABLE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

# What running takes, half of what developing takes. pyproject.toml is a prerequisite because it declares the `sentinel`
# command. The environment is recreated if it is missing or broken, or if the lock does not cover its Python version.
$(RUNNABLE): requirements-run.lock pyproject.toml
	@if ! $(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	  command -v $(PYTHON) >/dev/null || { \
	    echo 'error: $(PYTHON) is not installed. On Debian: apt install python3 python3-venv' >&2; exit 1; }; \
	  $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	    echo "error: Python 3.11, 3.12 or 3.13 is required, but $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	      "Select another one: make install PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo 'error: $(PYTHON) cannot create virtual environments. On Debian: apt install python3-venv' >&2; exit 1; }; \
	  echo "creating $(VENV) with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv --clear $(VENV); \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-run.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(RUNNABLE)  ## Run everything with a living synthetic bank, and print the console's address; Ctrl-C stops it
	$(BIN)/sentinel run --sample

demo: $(RUNNABLE)  ## Run the whole system on this machine and verify it by replay
	$(BIN)/sentinel demo

# A test process that dies is not replaced: with `loadfile`, pytest-xdist may wait for its replacement forever.
test: install  ## Run all tests except the integration suite; needs only .venv, no network
	$(BIN)/python -m pytest tests --ignore tests/integration --numprocesses $(TEST_JOBS) --dist loadfile \
	  --max-worker-restart 0 --durations 20

check: install  ## Check formatting, lint, types and dependency rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

# How long a step in the web console takes is measured last, with nothing beside it.
integration: install  ## Run the tests on Apache Kafka, Redis, Redis Cluster and Prometheus (needs Java 17, Maven, redis-server, prometheus)
	$(BIN)/python -m pytest tests/integration --ignore tests/integration/browser/test_keyboard.py \
	  --numprocesses $(TEST_JOBS) --dist load --max-worker-restart 0 --durations 20
	$(BIN)/python -m pytest tests/integration/browser/test_keyboard.py

docs: install  ## Generate the pages and tables of docs/ that come from the code
	$(BIN)/python -m tests.builders.pages

site: install  ## Build the documentation site into build/site; a broken link or anchor is an error
	$(BIN)/python -m tests.builders.site

format: install  ## Format the code and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The locks cover every supported Python and platform, and must not contain a registry's address. The second one is the
# part of the first that running takes on one machine; the third, for the image, has OpenTelemetry instead of the local
# stack's servers.
UV_COMPILE := build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock: install  ## Regenerate the locks with the newest versions that pyproject.toml allows
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(UV_COMPILE) --upgrade --extra local --extra otel --group dev pyproject.toml --output-file build/requirements.lock
	$(UV_COMPILE) --constraint build/requirements.lock --extra local --group build pyproject.toml \
	  --output-file build/requirements-run.lock
	$(UV_COMPILE) --constraint build/requirements.lock --extra otel --group build pyproject.toml \
	  --output-file build/requirements-image.lock
	@if grep -nE '://|^-|^\.|^/' build/requirements*.lock; then \
	  echo 'error: a new lock contains an address (see above); the locks are unchanged' >&2; exit 1; fi
	mv build/requirements.lock build/requirements-run.lock build/requirements-image.lock .

image:  ## Build the container image stream-sentinel
	docker build --file docker/Dockerfile --tag stream-sentinel .

# A tool of its own, so that its dependencies are nobody else's. No time and no random number: the same bytes each time.
sbom:  ## Write the image's Python packages to build/sbom.cdx.json (CycloneDX)
	@[ -x build/sbom/bin/cyclonedx-py ] || { $(PYTHON) -m venv --clear build/sbom && \
	  build/sbom/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0; }
	build/sbom/bin/cyclonedx-py requirements --output-reproducible --output-file build/sbom.cdx.json requirements-image.lock

pin:  ## Write the digests of the images' tags into docker/ (needs docker, and their registries)
	sh docker/pin.sh

bench: install  ## Measure end-to-end throughput and latency on this machine
	$(BIN)/sentinel bench pipeline

dist: install  ## Build the files of a release into build/dist (sign them: make dist KEY=~/.ssh/KEY)
	rm -rf build/dist
	$(BIN)/python -m release build build/dist $(if $(KEY),--key $(KEY))

clean:  ## Remove .venv and all generated files, but keep .sentinel (local snapshots and checkpoints)
	rm -rf $(VENV) build bench-results .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
