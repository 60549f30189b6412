.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .venv/bin/python
PYTEST := $(PY) -m pytest
# Two processes that each have a pool of OpenMP threads run many times slower on two cores. Nothing here may contact a model
# hub or send usage data.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
export TORCHDYNAMO_DISABLE ?= 1
export VLLM_NO_USAGE_STATS ?= 1
export DO_NOT_TRACK ?= 1
# The tests start hundreds of Python processes: each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE
# Processes that share out the tests (tests/parallel.py). Each may run a vLLM server, which takes about 3 GB of memory.
WORKERS ?= 2
OFFLINE := HF_HUB_OFFLINE=1

RUNS ?= 100
FAULTS ?= 6

.PHONY: help setup demo demo-models ablation soak test test-fast lint configuration compose-test format up clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## Create .venv with all packages (does nothing if it is up to date)
	@scripts/setup.sh

demo: setup ## Run the whole loop for real and print the results (KEEP=1 keeps the system running, SEED=n draws another pile)
	@$(OFFLINE) KEEP=$(KEEP) SEED=$(or $(SEED),0) $(PY) -m demo.run

demo-models: setup ## Train the demo's teacher and student again from scratch
	$(OFFLINE) $(PY) -m demo.training

ablation: setup ## Measure in the demo world what each part of the method adds (SEEDS="0 1 2"; an hour on two cores; can be continued)
	$(OFFLINE) $(PY) -m demo.ablation --seeds $(or $(SEEDS),0 1 2)

test: setup ## Run all tests: the fast and the slow (in WORKERS=2 processes), then the whole system and its faults
	@scripts/kubectl.sh
	@scripts/promtool.sh || echo "No promtool: the tests that evaluate the alert rules are skipped."
	$(OFFLINE) $(PYTEST) -n $(WORKERS) -m "not e2e and not fault" --durations=40
	$(OFFLINE) $(PYTEST) tests/e2e tests/faults --durations=30

test-fast: setup ## Run the fast tests only
	@scripts/kubectl.sh
	@scripts/promtool.sh || echo "No promtool: the tests that evaluate the alert rules are skipped."
	$(OFFLINE) $(PYTEST) -n $(WORKERS) -m "not slow and not e2e and not fault"

soak: setup ## Run RUNS=100 jobs under FAULTS=6 random faults each and compare their sets with a calm one, then 20,000 images (hours)
	$(OFFLINE) $(PY) -m tests.faults.storm.storm --runs $(RUNS) --faults $(FAULTS) --seed $(or $(SEED),0)
	$(OFFLINE) $(PY) -m tests.faults.storm.storm --runs $(RUNS) --faults $(FAULTS) --seed $(or $(SEED),0) --training
	$(OFFLINE) $(PY) -m tests.faults.storm.soak --minutes 60

lint: setup ## Check style, types and import rules
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy shared services
	.venv/bin/lint-imports

configuration: setup ## Write docs/configuration.md, docs/cli.md and the defaults in k8s/base/settings.env from the code
	@$(PY) scripts/configuration.py
	@$(PY) scripts/cli_reference.py

compose-test: setup ## Build the images, run the system in containers, and finish a job while parts are killed
	@$(OFFLINE) $(PY) -m deploy.compose_test

format: setup ## Format the code and apply automatic fixes
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

up: setup ## Run all services on this machine until Ctrl-C
	@$(PY) -m services

clean: ## Remove the environment, caches and all local data (.mpa)
	rm -rf .venv .mpa .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
