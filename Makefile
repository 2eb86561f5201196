# `make demo` draws a first dataset; `make test` runs every test. Each makes .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Five for two cores: tests wait for stores, leases and for Ray more often than they compute.
PYTEST := $(BIN)/pytest -n 5 --dist loadgroup
# Without bytecode each of them compiles all tests anew, and each of hundreds of child processes all of our code.
unexport PYTHONDONTWRITEBYTECODE
STAMP := $(VENV)/installed

.PHONY: demo test unit check lint format chaos bench bench-gpu clean-venv

demo: $(STAMP)
	$(BIN)/lightmill demo

test: $(STAMP)
	$(PYTEST)

unit: $(STAMP)
	$(PYTEST) tests/unit

# The same word that CI uses: format, lint, types, import contracts, tests.
check: lint test

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

chaos: $(STAMP)
	$(BIN)/python -m tests.chaos

# Under 15 minutes on two cores that have nothing else to do.
bench: $(STAMP)
	$(BIN)/python -m benchmarks

# Under 10 minutes on one large GPU.
bench-gpu: $(STAMP)
	$(BIN)/python -m benchmarks.gpu

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
