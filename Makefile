# raylign: `make run` and `make test` need only git, Python 3.11 and g++; everything else is made here.
#
#   make setup PYTHON=/path/to/python3.11   another interpreter
#   make setup STACK=cpu|gpu                override the choice by NVIDIA driver
#   make setup TORCH_CPU_INDEX=URL          where torch's CPU wheels come from when pip's own index has none
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
endif
ifndef STACK
STACK := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
endif
TORCH_CPU_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/$(STACK).lock
HASH := $(shell cat $(LOCK) pyproject.toml 2>/dev/null | sha256sum | cut -c1-12)
STAMP := $(VENV)/.ready-$(STACK)-$(HASH)
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
CODE := platform/raylign actors recipes
ARGS ?=
# tests side by side: a run's engine and learner take turns, so that one test keeps about one core busy
WORKERS ?= 2
BENCHMARKS := $(filter-out __init__ harness chaos golden_names reward_curve,$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/*.py)))
RECIPE ?= $(NAME)

.PHONY: help setup run browser test test-cluster lint lock wheel bench experiment doctor clean

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## make or refresh .venv (nothing to do when lock and pyproject are unchanged)

$(STAMP):
	@[ -n "$(PYTHON)" ] || { echo "raylign needs Python 3.11 or 3.12: install it, or name it: make setup PYTHON=/path/to/python3.11"; exit 1; }
	command -v g++ >/dev/null || { echo "raylign needs g++ (vLLM and DeepSpeed compile kernels): apt-get install g++"; exit 1; }
	[ -f $(LOCK) ] || { echo "$(LOCK) is missing: run make lock STACK=$(STACK)"; exit 1; }
	echo "[1/4] $(VENV) with $$($(PYTHON) --version), $(STACK) packages"
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	rm -f $(VENV)/.ready-*
	if [ $(STACK) = cpu ]; then
		TORCH=$$(grep '^torch==' $(LOCK))
		echo "[2/4] $$TORCH"
		$(PIP) --no-deps "$$TORCH" 2> $(VENV)/torch.log \
			|| { [ -n "$(TORCH_CPU_INDEX)" ] && $(PIP) --no-deps --index-url "$(TORCH_CPU_INDEX)" "$$TORCH"; } \
			|| { tail -n 3 $(VENV)/torch.log; echo "pip's index has no $$TORCH. Give the index of PyTorch's CPU wheels (see 'Install' on PyTorch's site):"; \
			     echo "    make setup TORCH_CPU_INDEX=<url>"; exit 1; }
	else
		echo "[2/4] torch comes with the GPU lock"
	fi
	echo "[3/4] $$(grep -c == $(LOCK)) pinned packages (one to five minutes)"
	$(PIP) --no-deps -r $(LOCK)
	echo "[4/4] raylign itself, editable"
	$(PIP) --no-deps --no-build-isolation -e .
	mkdir -p .links/raylign
	for entry in platform/raylign/*; do ln -sfn "../../$$entry" ".links/raylign/$$(basename "$$entry")"; done
	for part in actors recipes conf; do ln -sfn "../../$$part" ".links/raylign/$$part"; done
	touch $@

run: $(STAMP) ## the tiny model: warm-up, GRPO, evaluation before and after (ARGS="seed=2" adds overrides)
	@$(BIN)/raylign train recipe=grpo scale=tiny $(ARGS)

browser: ## Chromium for the tests of the report, where apt-get can install it; without one those tests are skipped
	@command -v chromium chromium-browser google-chrome >/dev/null && exit 0
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "chromium, for the tests of the report"
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-dejavu-core; } > /dev/null 2>&1 && exit 0
	fi
	echo "no chromium, and no way to install it: the tests of the report in a browser are skipped"

# hundreds of processes start; without bytecode each would compile our sources, and pytest its tests, anew
test test-cluster: export PYTHONDONTWRITEBYTECODE =

test-cluster: $(STAMP) ## jobs submitted to a Ray head of their own (no other Ray may run on the machine)
	@$(BIN)/python -m pytest -q -m cluster $(ARGS)

test: $(STAMP) browser ## pure tests, then those on real Ray, vLLM and DeepSpeed (ARGS="-k name" narrows)
	@echo "== pure tests"
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not ray and not vllm and not deepspeed and not e2e and not cluster" $(ARGS) || [ $$? -eq 5 ]
	echo "== engine tests"
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "(ray or vllm or deepspeed) and not e2e and not gpu" $(ARGS) || [ $$? -eq 5 ]
	echo "== whole runs" # apart, because they start Ray clusters of their own
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "e2e and not gpu" tests/e2e tests/chaos $(ARGS) || [ $$? -eq 5 ]

lint: $(STAMP) ## layout guard, ruff, mypy
	@for part in platform platform/hydra_plugins; do
		[ ! -e $$part/__init__.py ] || { echo "$$part/__init__.py shadows the standard library: delete it"; exit 1; }
	done
	mkdir -p .links/raylign
	find .links/raylign -maxdepth 1 -type l -delete
	for entry in platform/raylign/*; do ln -sfn "../../$$entry" ".links/raylign/$$(basename "$$entry")"; done
	for part in actors recipes conf; do ln -sfn "../../$$part" ".links/raylign/$$part"; done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

lock: ## resolve requirements/cpu.lock and gpu.lock anew (developers; uv goes into a temporary environment)
	@TMP=$$(mktemp -d); trap 'rm -rf "$$TMP"' EXIT
	$(PYTHON) -m venv "$$TMP/env"
	"$$TMP/env/bin/python" -m pip install --quiet uv
	COMMON=(--extra track --extra dev --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-header --no-annotate --no-emit-index-url)
	"$$TMP/env/bin/uv" pip compile pyproject.toml --extra cpu "$${COMMON[@]}" --overrides requirements/cpu-overrides.txt \
		$(if $(TORCH_CPU_INDEX),--extra-index-url $(TORCH_CPU_INDEX),$(foreach dir,$(PIP_FIND_LINKS),--find-links $(dir))) \
		--quiet -o requirements/cpu.lock
	"$$TMP/env/bin/uv" pip compile pyproject.toml --extra gpu "$${COMMON[@]}" --quiet -o requirements/gpu.lock

wheel: $(STAMP) ## dist/*.whl, and unpacked in build/pkg for Ray's py_modules (hashed by content)
	@rm -rf dist build
	$(BIN)/python -m build --wheel --no-isolation > /dev/null
	rm -rf build && mkdir -p build/pkg && cd build/pkg && $(CURDIR)/$(BIN)/python -m zipfile -e ../../dist/*.whl .
	echo "dist/$$(basename $(CURDIR)/dist/*.whl), build/pkg/raylign"

bench: $(STAMP) ## every benchmark, or one: make bench NAME=packing
	@for name in $(or $(NAME),$(BENCHMARKS)); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(ARGS); done

experiment: $(STAMP) ## one paper's experiment: make experiment RECIPE=<slug>
	@[ -n "$(RECIPE)" ] || { echo "make experiment RECIPE=<slug>; there are:"; ls benchmarks/experiments | sed -nE 's/^([a-z]\w*)\.py$$/    \1/p' | grep -vw report; exit 1; }
	$(BIN)/python -m benchmarks.experiments.$(RECIPE) $(ARGS)

doctor: $(STAMP) ## what is wrong with this environment, and the fix
	@$(BIN)/raylign doctor

clean: ## caches and build products (keeps .venv, outputs and .cache)
	rm -rf build dist .links .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info platform/*.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
