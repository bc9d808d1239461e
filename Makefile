# `make` alone lists the targets. Everything is installed into .venv and nothing outside this folder.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help venv demo lint test clean

# Any Python from 3.11 on; to choose one: make venv PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

venv: $(INSTALLED) ## create .venv with the package (editable) and all that demo and tests need

# The stamp is written last: an interrupted installation is taken up again, a finished one is not repeated.
$(INSTALLED): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "seqvae needs Python 3.11 or newer; $(PYTHON) says: $$($(PYTHON) --version 2>&1 | head -n 1)" >&2; \
	  echo "Name a newer one: make venv PYTHON=python3.12" >&2; exit 1; }
	@echo "Creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing the libraries: a few minutes the first time; the large downloads are named"
	@set -o pipefail; PYTHONWARNINGS=ignore \
	  $(BIN)/python -m pip install --progress-bar off -c constraints.txt -e ".[dev,figures]" \
	  | { grep --line-buffered -oE '[^/ ]+\.whl \([0-9]{2,}\.[0-9] MB\)' || true; }
	@touch $@
	@echo "Ready: .venv/bin/seqvae --help"

demo: venv ## train three models on the embedded corpus and compare them (about 5 minutes); ARGS="..." adds options
	@$(BIN)/seqvae demo $(ARGS)

lint: venv ## ruff and mypy
	@echo "ruff check"
	@$(BIN)/ruff check --quiet .
	@echo "ruff format --check"
	@$(BIN)/ruff format --check --quiet .
	@echo "mypy"
	@$(BIN)/mypy

# One thread for each of the two workers; a file stays on one worker, so that what it builds once is built once.
test: venv lint ## lint, then the whole test suite; ARGS="-k pooling" selects
	@echo "pytest"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGS)

clean: ## remove .venv, builds and caches
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
