# vljax: `make` lists the targets. Needs Python 3.11 to 3.13, pip and GNU make; everything else goes into $(VENV).

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
WORKERS ?= 2
WORKDIR ?= runs/quickstart
EXTRAS ?= quickstart
T ?= tests

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
PINS := $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
# XLA's CPU backend asks for its buffers anew in each step; huge pages make that a fifth of the step cheaper.
HUGE := GLIBC_TUNABLES=glibc.malloc.hugetlb=1
PYTEST := $(HUGE) OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
# LLVM's optimisation is half of what a small NFNet's step takes to compile, and its kernels then run once or twice.
QUICK := JAX_DISABLE_MOST_OPTIMIZATIONS=1
SOURCES := setup.py pyproject.toml $(CONSTRAINTS)
CHECKED := vljax launch configs benchmarks tests setup.py
# A Python that was named is obeyed or refused; the default may fall back to another one on the PATH.
PYTHONS := $(if $(filter file,$(origin PYTHON)),$(PYTHON) python3.11 python3.12 python3.13,$(PYTHON))

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-fast test-long parity bench lint format docs test-newest clean
.DELETE_ON_ERROR:

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: $(VENV)/.dev ## the developer's environment in .venv

quickstart: $(VENV)/.extras-$(EXTRAS) ## train a small CLIP on real pairs, evaluate it, write a report (about 6 minutes)
	$(HUGE) $(BIN)/python launch/train.py --config=configs/contrastive/clip_quickstart.py --workdir=$(WORKDIR)

test: $(VENV)/.dev ## everything but the long runs; torch comparisons too where torch is installed
	$(QUICK) $(PYTEST) -m "not long" --durations=10 --durations-min=10 $(T)

test-fast: $(VENV)/.dev ## under 3 minutes with a warm cache; takes a path: make test-fast T=tests/ops
	$(QUICK) $(PYTEST) -m "not slow and not long and not parity" $(T)

test-long: $(VENV)/.dev ## learning runs, kills, mutated inputs, pod-size compiles; by hand
	$(PYTEST) -m long --durations=0 $(T)

parity: $(VENV)/.parity ## live comparisons with torch packages, and real weights, all of which this installs
	$(QUICK) $(PYTEST) -m "parity and not long" $(T)

bench: $(VENV)/.dev ## speed against torch (if installed) and against limits: a table, and JSON in runs/bench.json
	$(HUGE) $(BIN)/python -m benchmarks.run $(BENCH)

lint: $(VENV)/.dev ## format, style and types
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: $(VENV)/.dev ## rewrite the files as `make lint` wants them
	$(BIN)/ruff format $(CHECKED)
	$(BIN)/ruff check --fix $(CHECKED)

docs: $(VENV)/.dev ## the documentation in site/, built without network
	$(BIN)/python -m mkdocs build --quiet --strict

test-newest: ## the tests with the newest releases that setup.py admits: make test-newest PYTHON=python3.13
	$(MAKE) test VENV=.venv-newest CONSTRAINTS= PYTHON=$(if $(filter file,$(origin PYTHON)),python3.13,$(PYTHON))

clean: ## what the targets made: environments, caches, site, egg-info; runs/ stays
	rm -rf .venv .venv-newest .cache .ruff_cache .hypothesis build dist site vljax.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1; then \
	    echo "creating $(VENV) with $$("$$python" --version)"; exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo "vljax needs Python 3.11, 3.12 or 3.13; tried: $(PYTHONS). Name one: make PYTHON=/path/to/python3.11" >&2; exit 1

$(VENV)/.dev: $(BIN)/python $(SOURCES)
	$(PIP) $(PINS) -e ".[dev]"
	$(PIP) $(PINS) --no-deps clip-anytorch
	@touch $@

$(VENV)/.extras-%: $(BIN)/python $(SOURCES)
	$(PIP) $(PINS) -e ".[$*]"
	@touch $@

# Two phases: torchvision's own requirement would replace a CPU build of torch, so it comes without dependencies.
$(VENV)/.parity: $(VENV)/.dev constraints-parity.txt
	$(PIP) $(PINS) -c constraints-parity.txt torch
	$(PIP) --no-deps -r constraints-parity.txt
	$(BIN)/python -W ignore -c "from benchmarks import rivals; rivals.transformers().CLIPModel; import open_clip, timm"
	@touch $@
