# make ladder:    everything from nothing: environment, data, six trained lessons, table and figure.
# make test:      the quick tests, in some minutes.
# make test-all:  every test: slow ones too, and more random examples each.
# make notebooks: runs the notebooks again and keeps their outputs.
#
# PYTHON=python3.12: another Python than the newest that is found and works; `make clean` first, if there is one.
# JAX=cuda13 (or cuda12, tpu): JAX for this accelerator, in the locked version.

# A version manager's stub may be found and not run; Debian's Python may lack ensurepip.
PYTHON ?= $(or $(shell for python in python3.14 python3.13 python3.12 python3.11 python3; do \
  $$python -c 'import ensurepip, venv' 2>/dev/null && echo $$python && break; done),python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(BIN)/.installed$(JAX:%=-%)
ifneq ($(filter-out cuda12 cuda13 tpu,$(JAX)),)
  $(error JAX=$(JAX) is not known; JAX can be cuda13, cuda12 or tpu, and is for the CPU if it is left out)
endif

.DELETE_ON_ERROR:
.PHONY: ladder test test-all notebooks lint lock clean

ladder: $(INSTALLED)
	$(BIN)/python experiments/ladder.py

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadgroup --hypothesis-profile=thorough

notebooks: $(INSTALLED)
	$(BIN)/python notebooks/run.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import platform as p; exit((p.system(), p.machine()) == ("Darwin", "x86_64"))' || { \
	  echo "error: JAX is no longer published for Macs with an Intel processor." >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)

$(BIN)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip --version >/dev/null || $(PYTHON) -m venv --clear $(VENV)  # its making was interrupted
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(BIN)/.installed-%: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --constraint requirements.lock "jax[$*]"
	touch $@

# For each Python from 3.11 on the newest versions that it can have, for every system; needs uv.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy requires-python \
	  --upgrade --no-header --no-annotate --output-file requirements.lock

clean:
	rm -rf $(VENV)
