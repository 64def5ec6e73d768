# `make` alone lists what there is; every target creates the environment that it needs.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.installed
PIP    := $(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt

# Verbs of the command `tapescale`; `make sweep BUDGET=20K` runs `tapescale sweep BUDGET=20K`.
VERBS := data features adopt plan sweep study status leaderboard effects compare scaling forecast report backtest \
         train evaluate promote rollback predict serve ui doctor baselines control tour
OTHERS := help setup setup-ray setup-bench setup-notebook test test-slow lint bench notebook screenshots

# The variables on the command line, each as a quoted word; Python refuses those that a verb does not take.
typed := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
typed := $(filter-out MAKEFLAGS SHELL PYTHON,$(typed))
quote = '$(subst ','\'',$(1))'
words = $(foreach name,$(typed),$(call quote,$(name)=$(value $(name))))
unread := $(if $(filter $(VERBS),$(MAKECMDGOALS)),,$(filter-out ARGS $(if $(filter-out help,$(MAKECMDGOALS)),,HELP) $(if $(filter bench,$(MAKECMDGOALS)),DEVICE BIG) \
          $(if $(filter screenshots,$(MAKECMDGOALS)),STORE),$(typed)))
$(if $(unread),$(error $(firstword $(unread)): make $(or $(MAKECMDGOALS),help) does not take it; name a verb, as in make sweep BUDGET=20K))
# A make that a recipe starts, as tests and the tour do, has flags of its own.
unexport ARGS

.DEFAULT_GOAL := help
.PHONY: $(VERBS) $(OTHERS)

help:
	@$(PYTHON) -m tapescale
	@echo
	@echo 'make setup | setup-ray | setup-bench | setup-notebook   create .venv, or add the packages of Ray, bench, notebook'
	@echo 'make test | test-slow | lint                            run the tests, those that take minutes, style and types'
	@echo 'make bench | notebook | screenshots                     measure speed, run the notebook, take the pictures of docs/ui.md'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: PYTHON=$(PYTHON): Python 3.11 or newer is needed; give another one, PYTHON=python3.12."; exit 2; }
	@test -x $(PY) || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing pinned packages into $(VENV) (first time: 2 GB, a few minutes)"
	@$(PIP) -e '.[dev]'
	@touch $@

# `make train evaluate SEEDS=7 AGAIN=1`: each verb takes its own variables, so it has to know the other verbs. By exec a
# signal that ends make reaches the verb, not a shell in between.
$(VERBS): $(READY)
	@TAPESCALE_VERBS='$(filter $(VERBS),$(MAKECMDGOALS))' exec $(PY) -m tapescale $@ $(words)

setup: $(READY)
	@echo "$(VENV) is ready; next  make doctor   make sweep"
setup-ray setup-bench setup-notebook: setup-%: $(READY)
	@$(PY) -c 'import $(or $($*_module),$*)' 2>/dev/null || $(PIP) -e '.[$*]'
bench_module := transformers
notebook_module := nbclient

# A process per processor; a test that must be watched runs without: .venv/bin/python -m pytest -x <file>.
SPREAD := -n logical --maxprocesses 8 --dist worksteal
test: $(READY)
	@$(PY) -m pytest $(SPREAD) $(ARGS)
test-slow: setup-ray setup-notebook
	@$(PY) -m pytest -m slow $(SPREAD) $(ARGS)
lint: $(READY)
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy
bench: setup-bench
	@$(PY) -m benchmarks.run $(if $(DEVICE),--device $(DEVICE)) $(if $(filter-out 0,$(BIG)),--big) $(ARGS)
notebook: setup-notebook
	@$(PY) docs/run_notebook.py docs/depth-or-width.ipynb
screenshots: $(READY)
	@$(PY) -m tests.screenshots $(if $(STORE),$(call quote,$(STORE)))

.DEFAULT:
	@echo 'error: $@: no such verb; `make` lists them.' >&2; exit 2
