# make ladder:    everything from nothing: environment, data, six trained lessons, table and figure.
# make test:      the quick tests, in some minutes.
# make test-all:  every test: slow ones too, and more random examples each.
# make notebooks: runs the notebooks again and keeps their outputs.

PYTHON ?= python3
BIN := .venv/bin
.DELETE_ON_ERROR:
.PHONY: ladder test test-all notebooks lint lock clean

ladder: $(BIN)/.installed
	$(BIN)/python experiments/ladder.py

test: $(BIN)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-all: $(BIN)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup --hypothesis-profile=thorough

notebooks: $(BIN)/.installed
	$(BIN)/python notebooks/run.py

lint: $(BIN)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(BIN)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# The newest versions that pyproject.toml admits, the same for every Python and system; needs uv.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy fewest \
	  --upgrade --no-header --no-annotate --output-file requirements.lock

clean:
	rm -rf .venv
