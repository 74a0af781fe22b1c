# Each target does what is missing and no more; `make clean-env` starts over.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# two OpenMP threads beside another busy process can spin: one thread, unless told otherwise
export OMP_NUM_THREADS ?= 1
# benchopt runs "python" from PATH, and must not look for conda
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MPLBACKEND = Agg

.PHONY: help run test lint results cpu gpu clean-env

help:
	@echo "make run      install, run configs/quick.yml, write the report to outputs/quick"
	@echo "make test     install, check the style, run the tests"
	@echo "make results  re-run the studies under results/ and all that is made from them"
	@echo "make cpu      the paper's three learning problems at a size for two cores"
	@echo "make gpu      the tests and the quick study on a CUDA device"

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

# A study: its configuration run by benchopt, then the report. $(1) name, $(2) where, $(3) options
define study
	rm -f outputs/$(notdir $(1)).parquet
	$(BIN)/benchopt run . --config configs/$(1).yml --no-display --output $(notdir $(1)) $(3)
	$(BIN)/python -m benchmark.report outputs/$(notdir $(1)).parquet --out $(2) $(4)
endef

# A study whose results are published, with the rows that they are made from. $(3) options of the report
define published
	$(call study,$(1),$(2),--no-cache,$(3))
	cp outputs/$(notdir $(1)).parquet $(2)/
endef

run: $(VENV)/.installed
	mkdir -p outputs
	test -f outputs/memory_curve.csv || $(BIN)/python -m benchmark.memory_curve --out outputs/memory_curve.csv
	$(call study,quick,outputs/quick,,--memory-curve outputs/memory_curve.csv)
	@echo "The report is in outputs/quick, benchopt's page in outputs/benchmark_*_quick.html"

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

results: $(VENV)/.installed
	$(BIN)/python -m benchmark.memory_curve --out results/quick/memory_curve.csv
	$(call published,quick,results/quick,--memory-curve results/quick/memory_curve.csv)
	$(call published,gradient_error,results/gradient_error,)
	$(call published,cpu/weighted_norms,results/cpu/weighted_norms,)
	$(call published,cpu/plug_and_play,results/cpu/plug_and_play,)
	$(call published,cpu/drunet,results/cpu/drunet,)

cpu: $(VENV)/.installed
	$(call study,cpu/weighted_norms,outputs/cpu/weighted_norms,,)
	$(call study,cpu/plug_and_play,outputs/cpu/plug_and_play,,)
	$(call study,cpu/drunet,outputs/cpu/drunet,,)

gpu: $(VENV)/.installed
	$(BIN)/python -c "import torch; assert torch.cuda.is_available(), 'no CUDA device here'"
	$(BIN)/python -m pytest -q
	$(call study,quick,outputs/gpu,--no-cache,)

clean-env:
	rm -rf $(VENV)
