# `make` alone lists the targets. Everything is installed into .venv (-newest, -oldest) and nothing outside this folder.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help venv demo lint test test-newest test-oldest apis clean

# Any Python from 3.11 on; to choose one: make venv PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# torch for test-newest and test-oldest: other releases on PyPI may be gigabytes of CUDA. make test-newest TORCH=torch
TORCH ?= $(shell grep '^torch==' constraints.txt)
# The tests that touch what other libraries offer: model, generation, Trainer, hub, remote code, trainer, command line.
APIS := $(addprefix tests/,data/test_corpora.py evaluation/test_sklearn.py data/test_files.py \
  explore/test_browser.py explore/test_page.py \
  hub/test_contents.py hub/test_hub_tokenizers.py hub/test_loading.py hub/test_pipelines.py hub/test_push.py \
  hub/test_sentence_transformers.py hub/test_space.py \
  training/test_callbacks.py training/test_mixed_precision.py training/test_trainer.py test_checkpoint_format.py \
  test_cli.py test_common.py test_configuration_seqvae.py test_export.py test_generation.py test_hf_trainer.py \
  test_modeling_decoder.py test_modeling_seqvae.py test_package.py test_pipelines.py test_text.py \
  test_tokenization.py test_transformers_suite.py)

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

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
	  $(BIN)/python -m pip install --progress-bar off -c constraints.txt -e ".[dev,figures,onnx,sentence-transformers]" \
	  | { grep --line-buffered -oE '[^/ ]+\.whl \([0-9]{2,}\.[0-9] MB\)' || true; }
	@touch $@
	@echo "Ready: .venv/bin/seqvae --help"

demo: venv ## train three models on the demo corpus and compare them (five to seven minutes on two cores); ARGS="..." adds options
	@$(BIN)/seqvae demo $(ARGS)

lint: venv ## ruff and mypy
	@echo "ruff check"
	@$(BIN)/ruff check --quiet .
	@echo "ruff format --check"
	@$(BIN)/ruff format --check --quiet .
	@echo "mypy"
	@$(BIN)/mypy

# One thread for each of the two workers; a file stays on one worker, so that what it builds once is built once. The
# order is that of tests/conftest.py, not xdist's, which puts the files of few and long tests last;
# the oldest xdist of the interface tests below cannot be told so.
test: venv lint ## lint, then the whole test suite; ARGS="-k pooling" selects
	@echo "pytest"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Releases come and go: this environment is brought up to date every time.
test-newest: ## the tests of other libraries' interfaces with their newest releases, without constraints
	@echo "Bringing .venv-newest up to date"
	@$(PYTHON) -m venv .venv-newest
	@PYTHONWARNINGS=ignore .venv-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager \
	  pip '$(TORCH)' -e ".[dev,figures,onnx,sentence-transformers]"
	@$(MAKE) --no-print-directory apis ENVIRONMENT=.venv-newest

test-oldest: ## the same tests with the lower bounds of setup.py, as in constraints-oldest.txt
	@echo "Bringing .venv-oldest up to date"
	@$(PYTHON) -m venv .venv-oldest
	@PYTHONWARNINGS=ignore .venv-oldest/bin/python -m pip install --quiet -c constraints-oldest.txt \
	  '$(TORCH)' -e ".[dev,figures,onnx,sentence-transformers]"
	@$(MAKE) --no-print-directory apis ENVIRONMENT=.venv-oldest

# transformers' own tests of a model are in its source distribution, which is not installed. Their marks are not ours.
apis:
	@set -e; version=$$($(ENVIRONMENT)/bin/python -c 'from importlib.metadata import version; print(version("transformers"))'); \
	source=$(ENVIRONMENT)/transformers-$$version; \
	echo "pytest with transformers $$version"; \
	test -d $$source || { \
	  $(ENVIRONMENT)/bin/python -m pip download --quiet --no-deps --no-build-isolation --no-binary transformers \
	    --dest $(ENVIRONMENT) transformers==$$version; \
	  tar -xzf $$source.tar.gz -C $(ENVIRONMENT); }; \
	TRANSFORMERS_SOURCE=$$source OMP_NUM_THREADS=1 $(ENVIRONMENT)/bin/python -m pytest -q -n 2 --dist loadfile \
	  -o addopts="--import-mode=importlib -ra" $(APIS) $(ARGS)

clean: ## remove .venv, builds and caches
	@rm -rf .venv .venv-newest .venv-oldest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
