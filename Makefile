# Each target does what is missing and no more; `make clean-env` starts over.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# two OpenMP threads beside another busy process can spin: one thread, unless told otherwise
export OMP_NUM_THREADS ?= 1
# benchopt runs "python" from PATH, and must not look for conda
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MPLBACKEND = Agg

.PHONY: help run test lint results gpu clean-env

help:
	@echo "make run      install, run configs/quick.yml, write the report to outputs/quick"
	@echo "make test     install, check the style, run the tests"
	@echo "make results  re-run the studies under results/ and all that is made from them"
	@echo "make gpu      the tests and the quick study on a CUDA device"

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

run: $(VENV)/.installed
	$(BIN)/python -m benchmark.study configs/quick.yml --out outputs/quick --memory-curve

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest -q

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

results: $(VENV)/.installed
	$(BIN)/python -m benchmark.study configs/quick.yml --out results/quick --memory-curve --no-cache
	$(BIN)/python -m benchmark.study configs/gradient_error.yml --out results/gradient_error --no-cache

gpu: $(VENV)/.installed
	$(BIN)/python -c "import torch; assert torch.cuda.is_available(), 'no CUDA device here'"
	$(BIN)/python -m pytest -q
	$(BIN)/python -m benchmark.study configs/quick.yml --out outputs/gpu --no-cache

clean-env:
	rm -rf $(VENV)
