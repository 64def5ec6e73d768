# Every verb creates the environment it needs; `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.installed

# VARIABLE=value -> --flag value, only where the user gave one.
flag = $(if $($(1)),--$(2) '$($(1))')
STUDY = $(call flag,DATA,data) $(call flag,SYMBOL,symbol) $(call flag,FEATURES,features) $(call flag,HORIZON,horizon) \
        $(call flag,THRESHOLD,threshold) $(call flag,TOUCH,touch) $(call flag,CONTEXT,context)
SWEEP = $(STUDY) $(call flag,BUDGET,budget) $(call flag,TRIALS,trials) $(call flag,EPOCHS,epochs) \
        $(call flag,PATIENCE,patience) $(call flag,SEED,seed) $(call flag,DEVICE,device) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup data sweep leaderboard scaling ui test test-slow lint

help: ## this list
	@echo "tapescale: does a bigger transformer help on market data, and in which shape?"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | awk -F'|' '{printf "%-19s %s\n", $$1, $$2}'
	@echo
	@echo "  variables: BUDGET HORIZON TRIALS THRESHOLD TOUCH FEATURES DATA SYMBOL CONTEXT SEED EPOCHS DEVICE"
	@echo "  example:   make sweep BUDGET=20K HORIZON=3 TRIALS=12"
	@echo "  all flags: python -m pipelines.sweep --help; pass others as ARGS='--patience 3'"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: PYTHON=$(PYTHON): Python 3.11 or newer is needed; give another one, PYTHON=python3.12."; exit 2; }
	@test -x $(PY) || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing pinned packages into $(VENV) (first time: 2 GB, a few minutes)"
	@$(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(READY) ## create .venv with pinned packages (every verb does this by itself)

data: $(READY) ## take the bundled market data in as a snapshot and report what is odd about it
	@$(PY) -m pipelines.ingest $(call flag,DATA,data) $(ARGS)

sweep: $(READY) ## search architectures at one parameter budget, every trial a nested MLflow run
	@$(PY) -m pipelines.sweep $(SWEEP)

leaderboard: $(READY) ## best architecture per budget and horizon, beside the baselines
	@$(PY) -m analysis.leaderboard $(ARGS)

scaling: $(READY) ## val_loss against counted parameters: table and figure
	@$(PY) -m analysis.scaling $(ARGS)

ui: $(READY) ## MLflow's pages over mlruns/, on this machine only
	@$(PY) -m pipelines.ui $(call flag,PORT,port) $(ARGS)

test: $(READY) ## the tests
	@$(PY) -m pytest $(ARGS)

test-slow: $(READY) ## the tests that take minutes
	@$(PY) -m pytest -m slow $(ARGS)

lint: $(READY) ## style and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
