# Two commands for a newcomer: `make demo` and `make test`. Everything they need is installed into .venv, once, from the
# hashed locks; a second call installs nothing.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := UV_PYTHON_DOWNLOADS=never $(BIN)/uv
STEP   := @printf '\033[1m==> %s\033[0m\n'

.PHONY: help demo test lint types format tools lock clean

help:
	@printf 'make demo    a night end to end: Kafka, 200,000 alerts, two workers, a verified catalogue, pictures\n'
	@printf 'make test    lint, types, the whole test suite\n'
	@printf 'make tools   what some tests skip without: Prometheus, Chromium, docker-compose (where apt-get and the right to use it are there);\n'
	@printf '             torch, onnxruntime, openvino, pandas, qp (%s GB in .venv, a minute)\n' $(LARGE_GB)
	@printf 'make lock    resolve the dependencies again (maintainers)\n'
	@printf 'make clean   remove the environment\n'

demo: $(VENV)/.demo
	@$(BIN)/slipher demo

test: $(VENV)/.dev
	$(STEP) 'ruff: lint and format'
	@$(BIN)/ruff check --no-cache . && $(BIN)/ruff format --check .
	$(STEP) 'mypy: types; beside it the kernels are compiled, once for all processes of the tests'
	@$(BIN)/python docker/kernels.py & kernels=$$!; $(BIN)/mypy; types=$$?; wait $$kernels && exit $$types
	$(STEP) 'pytest: the suite, on a real Apache Kafka'
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev
	@$(BIN)/ruff check --no-cache . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

# Tests that want one of these skip without it, and say so; so this never fails. First programs that come from no Python registry.
tools:
	@missing=; for tool in prometheus chromium docker-compose; do command -v $$tool > /dev/null || missing="$$missing $$tool"; done; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ]; then as=; elif sudo -n true 2> /dev/null; then as='sudo -n'; else as=nobody; fi; \
	if [ "$$as" = nobody ] || ! command -v apt-get > /dev/null; then \
	  echo "not installed:$$missing (needs apt-get and root); the tests that want them are skipped"; exit 0; fi; \
	printf '\033[1m==> installing%s\033[0m\n' "$$missing"; \
	$$as timeout 300 apt-get update -qq -o Acquire::Retries=1 > /dev/null 2>&1; \
	for tool in $$missing; do \
	  $$as env DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -qq -y --no-install-recommends $$tool > /dev/null 2>&1 \
	    || echo "$$tool could not be installed; the tests that want it are skipped"; done
	@$(MAKE) --silent $(VENV)/.large || true

# What is too large for everybody who tests. --no-deps, as the lock is whole but for triton (1 GB), which torch asks for, and a CPU
# does not. Not compiled to bytecode beforehand: that would take a minute, and the tests import little of it.
LARGE    := torch, onnxruntime, openvino, pandas and qp
LARGE_GB := 5
$(VENV)/.large: requirements-large.lock | $(BIN)/uv
	@for place in . "$${UV_CACHE_DIR:-$$HOME}"; do \
	  free=$$(df -Pk "$$place" 2> /dev/null | awk 'NR == 2 {print int($$4 / 1048576)}'); \
	  if [ -n "$$free" ] && [ "$$free" -lt $$(($(LARGE_GB) + 2)) ]; then \
	    echo "not installed: $(LARGE) ($$free GB are free in $$place, $$(($(LARGE_GB) + 2)) are wanted); the tests that want them are skipped"; \
	    exit 0; fi; done; \
	printf '\033[1m==> %s\033[0m\n' 'installing $(LARGE) (hash-checked, $(LARGE_GB) GB, about a minute)'; \
	if timeout 900 env $(UV) pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements-large.lock; then touch $@; \
	else echo '$(LARGE) could not be installed; the tests that want them are skipped'; fi

$(BIN)/uv:
	$(STEP) 'creating $(VENV) with $(PYTHON)'
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo 'slipher needs Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/python3.12'; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# Taken for the data in them, so without what they import: pz-rail-base for the DC2 galaxies of the demo and
# the spectra of the simulated sky, speclite for its filters, uplot-python for the charts of the monitor's page, lsst-alert-packet
# (tests only) for the schemas of Rubin's alerts, which come with nothing else and are not ours to copy.
# The environment of the demo; the tests' one contains it, so after `make test` the demo installs nothing.
$(VENV)/.demo: requirements.lock requirements-data.lock requirements-page.lock pyproject.toml | $(BIN)/uv
	@if [ -e $(VENV)/.dev ] && [ ! requirements-dev.lock -nt $(VENV)/.dev ]; then :; else \
	  printf '\033[1m==> %s\033[0m\n' 'installing what the demo needs (hash-checked, about a minute)' && \
	  $(UV) pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock; fi
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements-data.lock -r requirements-page.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock requirements-data.lock requirements-page.lock requirements-schemas.lock pyproject.toml | $(BIN)/uv
	$(STEP) 'installing what the tests need (hash-checked, about a minute)'
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements-dev.lock
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements-data.lock -r requirements-page.lock -r requirements-schemas.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo

COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --fork-strategy fewest \
           --no-annotate --no-header --no-emit-package slipher
lock: | $(BIN)/uv
	$(COMPILE) --extra dev --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) --extra demo --extra build --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra build --extra fits --extra s3 --extra monitor --constraint requirements-dev.lock --output-file requirements-worker.lock pyproject.toml
	$(COMPILE) --extra build --extra fits --extra s3 --extra monitor --extra images --constraint requirements-dev.lock --output-file requirements-gpu.lock pyproject.toml
	$(COMPILE) --extra dev-large --no-emit-package triton --constraint requirements-dev.lock --output-file requirements-large.lock pyproject.toml
	printf 'pz-rail-base==2.0.11\nspeclite==1.0.0\n' | $(COMPILE) --no-deps --output-file requirements-data.lock -
	echo 'uplot-python==1.1.1' | $(COMPILE) --no-deps --output-file requirements-page.lock -
	echo 'lsst-alert-packet==30.2026.2700' | $(COMPILE) --no-deps --output-file requirements-schemas.lock -

clean:
	rm -rf $(VENV)
