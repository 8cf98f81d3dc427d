# `make train` and `make test` do everything on a fresh machine, set-up included.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SHELL := /bin/bash

# One numerical thread a process: networks here are small, and processes share the cores.
export OMP_NUM_THREADS ?= 1

.PHONY: help setup train test check format docs wheel clean

help:
	@echo "make train   set up and search a network for the embedded data set (ARGS='agent=reinforce seed=1' overrides)"
	@echo "make test    set up and run the tests (ARGS='-k store' selects)"
	@echo "make check   lint, format, types, layers, spelling: what CI and pre-commit run"
	@echo "make format  format the code"
	@echo "make docs    the documentation as a site, in outputs/site"
	@echo "make wheel   build the wheel"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

train: $(READY)
	$(BIN)/rlnas train $(ARGS)

test: $(READY)
	$(BIN)/pytest -n auto $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/python docs/make_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(READY)
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
