# The CPU set-up needs Python 3.11, make and gcc. `make help` lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VARIANT ?= cpu
TORCH_INDEX ?=
JOBS ?= 2

# One stamp per place and variant: a copied or moved tree installs itself again.
HERE := $(shell echo "$(CURDIR)" | cksum | cut -d' ' -f1)
READY := .venv/.ready-$(VARIANT)-$(HERE)
BIN := .venv/bin
CODE := rl sft evaluation reports run_files rewards rollouts configs kimi_vl_model problems tests \
	benchmarks requirements examples

unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH
export HF_HUB_OFFLINE = 1
export HF_DATASETS_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: setup demo test lint lock clean distclean help
.DEFAULT_GOAL := setup

setup: $(READY)  ## create .venv and install everything (the other targets do it when needed)

$(READY): requirements/$(VARIANT).lock pyproject.toml
	@requirements/setup.sh "$(PYTHON)" "$(VARIANT)" "$(TORCH_INDEX)"
	@touch "$@"

demo: setup  ## train a tiny Kimi-VL through SFT and RL, end with a report in runs/demo
	@$(BIN)/python benchmarks/demo.py --run-dir runs/demo

test: setup  ## the test suite
	@$(BIN)/python -m pytest -q -n $(JOBS)

lint: setup  ## ruff, pyright and the import contracts of .importlinter
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	@$(BIN)/lint-imports --no-logo --no-cache >.venv/imports.log 2>&1 || (cat .venv/imports.log; false)
	@tail -n 2 .venv/imports.log | head -n 1

lock: setup  ## resolve requirements/cpu.lock and requirements/cuda.lock again
	@$(BIN)/python requirements/lock.py

clean:  ## remove caches and build products
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove .venv and runs
	@rm -rf .venv runs

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile | awk -F': ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  variables: PYTHON=/path/to/python3.11, VARIANT=cpu|cuda, TORCH_INDEX=https://…, JOBS=2"
