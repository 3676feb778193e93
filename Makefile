# Everything a contributor runs. `make` alone lists it.
PYTHON ?= python3
JOBS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed
# A worker a core and a thread a worker: faster than letting the threads of all workers compete.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false MPLBACKEND=Agg \
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations=10

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow faults fuzz lint format docs reference bench-peers clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## make .venv and install dynexit with its checks, once

# PyTorch goes first and alone, so that nothing else decides which build of it comes.
$(STAMP): pyproject.toml constraints.txt
	@echo "Installing dynexit and its checks into .venv (the first time takes a few minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## train exits for the shipped models, decode, measure, tell
	@$(BIN)/dynexit demo

test: $(STAMP) ## the tests of every change
	$(PYTEST)

test-slow: $(STAMP) ## the tests that take longer
	$(PYTEST) -m slow

KILLS ?= 50
MINUTES ?= 60
HARNESS := OMP_NUM_THREADS=1 PYTHONPATH=src:tests $(BIN)/python -m

faults: $(STAMP) ## kill every long operation KILLS times, at random points, and compare
	$(HARNESS) faults --kills $(KILLS) --json build/faults.json

fuzz: $(STAMP) ## broken files and bodies for every parser, for MINUTES in total
	$(HARNESS) fuzz --minutes $(MINUTES) --json build/fuzz.json

lint: $(STAMP) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## mend what can be mended of the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## the documentation, as a site in build/site
	@NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet
	@echo "open build/site/index.html"

reference: $(STAMP) ## train the shipped pair of models anew
	$(BIN)/python -m dynexit.reference.recipe

PEERS := .venv-peers
SHAPES ?= mistral-1b mamba2-1b mamba-1b

$(PEERS)/.installed: benchmarks/peers/requirements.txt
	@echo "Installing other systems into $(PEERS) (llama.cpp compiles for some minutes) ..."
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install -q --disable-pip-version-check torch==2.13.0
	@CMAKE_ARGS="-DLLAVA_BUILD=OFF" TIDE_NO_CUDA=1 $(PEERS)/bin/python -m pip install -q \
		--disable-pip-version-check -r benchmarks/peers/requirements.txt
	@touch $@

bench-peers: $(STAMP) $(PEERS)/.installed ## other systems side by side on one checkpoint
	@for shape in $(SHAPES); do $(BIN)/python benchmarks/peers/run.py --shape $$shape \
		--python $(PEERS)/bin/python --work $(PEERS)/work --json $(PEERS)/$$shape.json || exit; done

clean: ## remove caches, builds and the demo's output (.venv stays)
	rm -rf build dist dynexit-demo dynexit-bench .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
