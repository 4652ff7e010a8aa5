# make ladder:    everything from nothing: environment, data, six trained lessons, table and figure.
# make test:      the quick tests, in some minutes.
# make test-all:  every test: slow ones too, and more random examples each.
# make notebooks: runs the notebooks again and keeps their outputs, in both languages.
#
# PYTHON=python3.12: another Python than the newest that is found and works.
# JAX=cuda13 (or cuda12, tpu): JAX for this accelerator, in the locked version.
# LANE=3.12: an environment of its own, .venv-3.12.

VENV := .venv$(addprefix -,$(notdir $(firstword $(LANE))))
BIN := $(VENV)/bin
# A worker that died is not replaced: pytest-xdist 3.8 may then wait for ever (its issues 1323, 1327 and 1378).
WORKERS := -n 2 --dist loadgroup --max-worker-restart 0
JAX ?= $(patsubst $(BIN)/.installed-%,%,$(firstword $(wildcard $(BIN)/.installed-*)))
INSTALLED := $(BIN)/.installed$(addprefix -,$(JAX))
# A version manager's stub may be found and not run; Debian's Python may lack ensurepip.
FOUND = $(or $(PYTHON),$(shell for python in python3.14 python3.13 python3.12 python3.11 python3; do \
  $$python -c 'import ensurepip, venv' 2>/dev/null && echo $$python && break; done),python3)
version = $(shell $(1) -c 'import pip, platform; print(platform.python_version())' 2>/dev/null)
# Empty if there is none, if its making was interrupted, or if the Python that it is of was removed.
VERSION := $(call version,$(BIN)/python)

ifneq ($(MAKECMDGOALS),clean)
  ifneq ($(word 2,$(JAX))$(filter-out cuda12 cuda13 tpu,$(JAX)),)
    $(error JAX=$(JAX) is not known; JAX can be cuda13, cuda12 or tpu, and is for the CPU if it is left out)
  endif
  ifneq ($(filter-out $(INSTALLED),$(wildcard $(BIN)/.installed-*)),)
    $(error $(VENV) has JAX for another accelerator; to replace it: make clean)
  endif
  ifneq ($(and $(PYTHON),$(VERSION)),)
    ifneq ($(call version,$(PYTHON)),$(VERSION))
      $(error $(VENV) has another Python than $(PYTHON); to replace it: make clean)
    endif
  endif
endif

.DELETE_ON_ERROR:
.PHONY: ladder test test-all notebooks lint environment lock clean

ladder: $(INSTALLED)
	$(BIN)/python experiments/ladder.py

test: $(INSTALLED)
	$(BIN)/python -m pytest $(WORKERS) -m "not slow"

test-all: $(INSTALLED)
	$(BIN)/python -m pytest $(WORKERS) --hypothesis-profile=thorough

notebooks: $(INSTALLED)
	$(BIN)/python notebooks/run.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

environment:
	@$(FOUND) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(FOUND) -c 'import platform as p; exit((p.system(), p.machine()) == ("Darwin", "x86_64"))' || { \
	  echo "error: JAX is no longer published for Macs with an Intel processor." >&2; exit 2; }
	$(FOUND) -m venv --clear $(VENV)

$(BIN)/.installed: requirements.lock pyproject.toml $(if $(VERSION),,environment)
	@echo "Installing JAX and all else into $(VENV): some minutes."
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
