# Everything a stranger needs: `make demo` and `make test` set themselves up in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: help demo test format lint types tests coverage bench constraints clean

help:
	@echo "make demo    a simulated device in an embedded cloud, live (Ctrl-C ends it)"
	@echo "make test    format check, lint, types and tests: what CI runs"
	@echo "make format  rewrite the sources in house style"
	@echo "make bench   measure speeds"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "gizserial needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python pyproject.toml constraints.txt
	@echo "setting up $(VENV) (once) ..."
	$(PIP) --editable '.[cloud]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "setting up $(VENV) for development (once) ..."
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run
	@$(BIN)/gizsim demo $(ARGS)

test: format-check lint types tests

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: format-check
format-check: $(VENV)/.dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

tests: $(VENV)/.dev
	$(BIN)/python -m pytest $(ARGS)

coverage: $(VENV)/.dev
	$(BIN)/python -m pytest --cov --cov-branch --cov-report=term $(ARGS)

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/run.py

constraints: $(VENV)/.dev
	$(BIN)/python -m pip list --format=freeze --exclude-editable | grep -viE '^(pip|setuptools|wheel|gizserial)==' > constraints.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
