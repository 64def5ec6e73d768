# Every verb creates the environment it needs; `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.installed

# VARIABLE=value -> --flag value, only where the user gave one.
flag = $(if $($(1)),--$(2) '$(subst ','\'',$($(1)))')
# VARIABLE=a,b,c -> --flag a b c
comma := ,
list = $(if $($(1)),--$(2) $(subst $(comma), ,$($(1))))
# SWITCH=1 -> --switch; 0 and no leave it off.
switch = $(if $(filter-out 0 no false,$($(1))),--$(2))
# What any verb takes: HELP=1 shows what it does, its flags and examples, and does nothing.
args = $(ARGS) $(if $(HELP),--help)
# A make that a recipe starts, as tests and the tour do, has flags of its own.
unexport ARGS
# STORE=folder is another store than mlruns/, for every verb that has one.
stored = $(call flag,STORE,store) $(args)
# Some shells export COLUMNS, the width of the terminal, and WSL exports NAME, the machine's; only what was typed is meant.
typed = $(if $(findstring environment,$(origin $(1))),,$(call flag,$(1),$(2)))
# TRIALS=50 is 50 in all, TRIALS=+10 is 10 more.
more = $(if $(filter +%,$(TRIALS)),--add-trials '$(patsubst +%,%,$(TRIALS))',$(call flag,TRIALS,trials))
# A variable that a verb does not read would leave it at another question than was asked: what was typed is held against
# what the recipes read. Make's own variables are its affair.
goals := $(or $(MAKECMDGOALS),help)
typed_names := $(foreach one,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(one)))),$(one)))
given := $(strip $(filter-out MAKEFLAGS SHELL,$(typed_names)) $(if $(HELP),HELP))
given := $(subst ',,$(if $(filter help,$(goals)),$(filter-out HELP,$(given)),$(given)))
reading = $(shell awk -v goals='$(goals)' -v given='$(1)' -f variables.awk $(firstword $(MAKEFILE_LIST)))
refused := $(if $(given),$(call reading,$(given)))
$(if $(refused),$(error $(refused)))
$(if $(filter-out help,$(if $(HELP),$(goals))),$(info make $(goals) reads: $(call reading)))

STUDY = $(call flag,DATA,data) $(call flag,SYMBOL,symbol) $(call list,SYMBOLS,symbols) $(call list,VALIDATE_ON,validate-on) \
        $(call flag,FEATURES,features) $(call flag,INDEX,index) $(call flag,VOLATILITY_INDEX,volatility-index) \
        $(call flag,HORIZON,horizon) $(call flag,TASK,task) $(call flag,THRESHOLD,threshold) $(call flag,TOUCH,touch) \
        $(call flag,CONTEXT,context) $(call flag,WINDOWS,windows) $(call flag,WINDOWS_FROM,windows-from) $(call flag,TRAIN_END,train-end) \
        $(call flag,VALIDATION_END,validation-end) $(call flag,TEST_END,test-end)
SEARCH = $(STUDY) $(more) $(call flag,EPOCHS,epochs) $(call flag,PATIENCE,patience) $(call flag,SEED,seed) \
        $(call list,LAYERS,layers) $(call list,WIDTHS,widths) $(call list,HEADS,heads) \
        $(call flag,SAMPLER,sampler) $(call flag,PRUNER,pruner) $(call flag,REPLICATES,replicates) \
        $(call flag,DEVICE,device) $(call flag,WORKERS,workers) $(call flag,THREADS,threads) $(call flag,RAY,ray) \
        $(call flag,STACK,stack) $(call flag,PRECISION,precision) $(call flag,OPTIMIZER,optimizer) $(call flag,WIDTH_TRANSFER,base-width)
SWEEP = $(SEARCH) $(call flag,BUDGET,budget) $(stored)
LADDER = $(SEARCH) $(call flag,BUDGET,budget) $(call flag,BUDGETS,budgets) $(call list,HORIZONS,horizons) $(stored)

.DEFAULT_GOAL := help
.PHONY: help setup setup-ray setup-bench data plan sweep study status baselines control features adopt leaderboard effects compare scaling forecast report train evaluate backtest promote rollback predict serve tour ui notebook setup-notebook screenshots doctor bench test test-slow lint

help: ## this list
	@echo "tapescale: does a bigger transformer help on market data, and in which shape?"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | awk -F'|' '{printf "%-22s %s\n", $$1, $$2}'
	@echo
	@echo "  question:  BUDGET HORIZON TASK THRESHOLD TOUCH CONTEXT"
	@echo "  data:      DATA SYMBOL SYMBOLS VALIDATE_ON FEATURES INDEX VOLATILITY_INDEX WINDOWS TRAIN_END"
	@echo "  search:    TRIALS (or +10) LAYERS WIDTHS HEADS SAMPLER PRUNER REPLICATES EPOCHS PATIENCE SEED WIDTH_TRANSFER"
	@echo "  machine:   DEVICE WORKERS THREADS RAY STACK PRECISION OPTIMIZER; STORE=folder instead of mlruns"
	@echo "  example:   make sweep BUDGET=20K HORIZON=3 TRIALS=12"
	@echo "             make study BUDGETS=20K,200K,2M HORIZONS=1,3,5 TRIALS=12"
	@echo "  all flags: make sweep HELP=1 (any verb, with examples); pass others as ARGS='--patience 3'"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: PYTHON=$(PYTHON): Python 3.11 or newer is needed; give another one, PYTHON=python3.12."; exit 2; }
	@test -x $(PY) || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing pinned packages into $(VENV) (first time: 2 GB, a few minutes)"
	@$(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(READY) ## create .venv with pinned packages (every verb does this by itself)
	@echo "$(VENV) is ready; next  make doctor   make sweep"

setup-ray: $(READY) ## add Ray, for trials on a cluster (RAY=auto)
	@$(PY) -c 'import ray' 2>/dev/null || $(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[ray]'

data: $(READY) ## take bars in, or bring a data set up to date: SYMBOLS=SPY,^VIX START=1993-01-29, DATA=<file or name>
	@$(PY) -m pipelines.data.ingest $(call flag,DATA,data) $(call flag,SYMBOLS,symbols) $(call flag,START,start) $(call flag,END,end) \
	  $(call typed,NAME,name) $(call typed,COLUMNS,columns) $(call flag,CALENDAR,calendar) $(call flag,KIND,kind) \
	  $(call flag,PRICES,prices) $(call flag,ALLOW,allow) $(call switch,FULL,full) $(stored)

plan: $(READY) ## what a sweep would take here: sizes, FLOPs, memory, hours, disk; nothing is trained
	@$(PY) -m pipelines.plan.plan $(SWEEP)

sweep: $(READY) ## search architectures at one parameter budget, every trial a nested MLflow run
	@$(PY) -m pipelines.sweep.sweep $(SWEEP)

study: $(READY) ## a ladder of sweeps, resumable as a whole: BUDGETS=2K..2M/half HORIZONS=1,3,5
	@$(PY) -m pipelines.study.study $(LADDER)

status: $(READY) ## running sweeps, best so far, time left, stalls, disk; WATCH=5 redraws every 5 seconds
	@$(PY) -m analysis.status $(call flag,WATCH,watch) $(stored)

adopt: $(READY) ## bring results of an earlier study in: PATHS='log.txt results.csv folder'
	@$(PY) -m pipelines.adopt.adopt $(PATHS) $(stored)

baselines: $(READY) ## what the reference models reach year by year, with intervals: HORIZONS=1,3,5 YEARS=2005-2018
	@$(PY) -m pipelines.checks.baselines $(STUDY) $(call list,HORIZONS,horizons) $(call list,THRESHOLDS,thresholds) \
	  $(call flag,YEARS,years) $(stored)

control: $(READY) ## does the pipeline find a planted signal, and none in shuffled labels? (two small sweeps)
	@$(PY) -m pipelines.checks.control $(call flag,SIGNAL,signal) $(call flag,LAG,lag) $(call flag,BARS,bars) $(call flag,BUDGET,budget) $(call flag,TRIALS,trials) $(call flag,EPOCHS,epochs) \
	  $(call flag,HORIZON,horizon) $(call flag,SEED,seed) $(call flag,DEVICE,device) $(call flag,WORKERS,workers) \
	  $(call flag,THREADS,threads) $(stored)

features: $(READY) ## every feature: group, formula, warm-up, source, and the sets that hold it
	@$(PY) -m research.features.catalogue_table $(args)

leaderboard: $(READY) ## best architecture per budget and horizon, beside the baselines, and how sure; FIGURES=1 draws
	@$(PY) -m analysis.leaderboard $(call switch,ADOPTED,adopted) $(call switch,FIGURES,figures) $(stored)

effects: $(READY) ## what depth, width and the other settings contribute at each budget, and whether a shape serves elsewhere
	@$(PY) -m analysis.effects $(stored)

compare: $(READY) ## is A=20K better than B=logistic (budget, baseline or run id)? without A and B: which of all may be best
	@$(PY) -m analysis.compare $(A) $(B) $(stored)

scaling: $(READY) ## val_loss against counted parameters: table and figure
	@$(PY) -m analysis.scaling $(stored)

forecast: $(READY) ## the loss of a budget that was not tried, sealed before its sweep: BUDGET=20M HORIZON=1; without: how all did
	@$(PY) -m analysis.forecast $(call flag,BUDGET,budget) $(call flag,HORIZON,horizon) $(stored)

report: $(READY) ## one page of all that the store says: verdicts, frontier, shapes, baselines, what is not established
	@$(PY) -m analysis.report.report $(stored)

train: $(READY) ## the best trial again on training and validation days, over fresh seeds: BUDGET=20K HORIZON=1, or RUN=<trial> SEEDS=3 CALIBRATION=
	@$(PY) -m pipelines.final.train $(call flag,BUDGET,budget) $(call flag,HORIZON,horizon) $(call flag,RUN,run) $(call flag,SEEDS,seeds) \
	  $(call flag,CALIBRATION,calibration) $(call flag,DEVICE,device) $(call flag,THREADS,threads) $(stored)

evaluate: $(READY) ## open the test days for what `make train` left, once: BUDGET=20K HORIZON=1, or RUN=<final run>; WALK_FORWARD=1
	@$(PY) -m pipelines.final.evaluate $(call flag,BUDGET,budget) $(call flag,HORIZON,horizon) $(call flag,RUN,run) \
	  $(call switch,AGAIN,again) $(call switch,WALK_FORWARD,walk-forward) $(stored)

promote: $(READY) ## take what was tested into use, if it passes every gate: BUDGET=20K HORIZON=1, RUN=<final run>, or MODEL= VERSION=; FORCE=1
	@$(PY) -m pipelines.registry.promote $(call flag,BUDGET,budget) $(call flag,HORIZON,horizon) $(call flag,RUN,run) $(call flag,MODEL,model) \
	  $(call flag,VERSION,version) $(call switch,FORCE,force) $(stored)

rollback: $(READY) ## the champion before the present one again: MODEL=
	@$(PY) -m pipelines.registry.rollback $(call flag,MODEL,model) $(stored)

backtest: $(READY) ## what acting on the probabilities would have earned, after costs: BUDGET= HORIZON= or RUN=, COST=1 SLIPPAGE=1 ENTER=
	@$(PY) -m analysis.backtest.backtest $(call flag,BUDGET,budget) $(call flag,HORIZON,horizon) $(call flag,RUN,run) $(call flag,COST,cost) \
	  $(call flag,SLIPPAGE,slippage) $(call flag,ENTER,enter) $(stored)

predict: $(READY) ## the newest probabilities of every registered model, or of MODEL=; refuses stale data: DAYS=5 MAX_AGE=1 STALE_OK=1
	@$(PY) -m pipelines.serving.predict $(call flag,MODEL,model) $(call flag,DATA,data) $(call flag,DAYS,days) $(call flag,MAX_AGE,max-age) \
	  $(call switch,STALE_OK,stale-ok) $(stored)

serve: $(READY) ## a registered model over HTTP, on this machine only: MODEL= PORT=
	@$(PY) -m pipelines.serving.serve $(call flag,MODEL,model) $(call flag,PORT,port) $(stored)

tour: $(READY) ## every verb once at a tiny size, in a store of its own: an empty store to a served prediction (FOLDER= keeps it there)
	@$(PY) -m pipelines.checks.tour $(call flag,FOLDER,folder) $(call flag,PORT,port) $(args)

ui: $(READY) ## MLflow's pages over mlruns/, on this machine only
	@$(PY) -m pipelines.serving.ui $(call flag,PORT,port) $(stored)

doctor: $(READY) ## are machine, packages, store and data in order, and what to do; FIX=1 does what is safe
	@$(PY) -m pipelines.checks.doctor $(call switch,FIX,fix) $(stored)

screenshots: $(READY) ## the pictures of docs/ui.md, in headless Chromium over a small study; STORE=mlruns takes that one's newest sweep
	@$(PY) -m tests.screenshots $(if $(STORE),'$(STORE)')

setup-notebook: $(READY) ## add what runs the notebook
	@$(PY) -c 'import ipykernel, nbclient' 2>/dev/null || $(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[notebook]'

notebook: setup-notebook ## run docs/depth-or-width.ipynb on this store anew; its first cell says which sweeps it wants
	@$(PY) docs/run_notebook.py docs/depth-or-width.ipynb

setup-bench: $(READY) ## add the published model that `make bench` compares with
	@$(PY) -c 'import transformers' 2>/dev/null || $(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[bench]'

bench: setup-bench ## what training, data, tracking and start-up cost, beside what others pay for the same; BIG=1: a 2B step
	@$(PY) -m benchmarks.run $(call flag,DEVICE,device) $(call switch,BIG,big) $(args)

test: $(READY) ## the tests
	@$(PY) -m pytest $(args)

test-slow: setup-ray setup-notebook ## the tests that take minutes; they need Ray and what runs the notebook
	@$(PY) -m pytest -m slow $(args)

lint: $(READY) ## style and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

# What make says of an unknown name does not say where the known ones are.
.DEFAULT:
	@echo 'error: $@: no such verb; `make` lists them.' >&2; exit 2
