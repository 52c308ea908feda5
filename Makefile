# Everything below sets up .venv on its own; `make help` lists what there is.
# Variables: PYTHON (3.11 or newer), PIP_ARGS (more arguments for pip, e.g. an index of CPU wheels).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
BIN := .venv/bin
# Two stamps: the demo needs a fraction of what the checks need, and a stranger should not wait for the rest.
LOCAL := .venv/.installed-local
DEV := .venv/.installed-dev

# One line per package instead of minutes of silence; pipefail keeps pip's exit status.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --progress-bar off $(PIP_ARGS)
LINES := sed -un -e 's/^Collecting \([^ ]*\).*/    \1/p' -e 's/^Installing collected.*/  installing …/p' -e 's/^Successfully installed.*/  done/p'

.PHONY: help demo test check format bench clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

demo: $(LOCAL) ## a population gets an adapter each, and a table shows what that brought (no network)
	@$(BIN)/idiolect demo

test: $(DEV) ## all tests
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(DEV) ## style, format, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(DEV) ## mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV) ## speed and memory against the peers, interleaved; writes bench/results/*.json
	@for name in train serve load memory assemble pool unlearn play; do $(BIN)/python -m idiolect.bench $$name --out bench/results; done

clean: ## remove the environment and every cache
	rm -rf .venv dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
	find src tests bench recipes -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"{sys.executable} is Python {sys.version.split()[0]}; idiolect needs 3.11 or newer: make PYTHON=python3.12 …")'
	@echo "Making .venv with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv .venv

$(LOCAL): pyproject.toml | $(BIN)/python
	@echo "Installing idiolect with what training, serving and the game need (once, a few minutes) …"
	@$(PIP) -e ".[local,serve]" | $(LINES)
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	@echo "Installing idiolect with what tests, checks and benchmarks need (once, a few minutes) …"
	@$(PIP) -e ".[dev]" | $(LINES)
	@touch $@ $(LOCAL)
