# Each target does what is missing and no more; `make clean-env` starts over.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# two OpenMP threads beside another busy process can spin: one thread, unless told otherwise
export OMP_NUM_THREADS ?= 1
# benchopt runs "python" from PATH, and must not look for conda
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MPLBACKEND = Agg
# what is imported is compiled once, and not by each of many processes
export PYTHONDONTWRITEBYTECODE =
# the folder of results that the site shows
export RESULTS ?= results

.PHONY: help run test test-long lint docs mutants faults coverage growth engines results report site dist cpu gpu clean-env

help:
	@echo "make run      install, run configs/quick.yml once, write the report to outputs/quick"
	@echo "make test     install, check the style, run the tests"
	@echo "make test-long  the tests, with more random problems"
	@echo "make mutants  how many of 400 small changes of the code the tests notice (about two hours)"
	@echo "make coverage how often the report's intervals hold the truth, simulated (a few minutes)"
	@echo "make growth   what a study costs as its runs and images grow: laws, to results/growth.md (a quarter of an hour)"
	@echo "make faults   inject faults into runs and files; how each ended goes to results/faults.md (minutes)"
	@echo "make engines  one small study in five ways, on dask and submitit too, workers killed (minutes)"
	@echo "make results  re-run the studies under results/ and all that is made from them (more than an hour)"
	@echo "make report   make again, from the rows under results/, all that is made from them"
	@echo "make docs     build the documentation and the pages of results/ into site/; a warning is an error"
	@echo "make site     the same, with benchopt's interactive pages"
	@echo "make dist     a wheel, and a source archive that runs a study elsewhere, into dist/"
	@echo "make cpu      the paper's three learning problems on photographs that ship with packages"
	@echo "make gpu      the tests and the quick study on a CUDA device"

# uv where it is there. No file is compiled before it is imported: most never are
UV := $(shell command -v uv 2>/dev/null)
INSTALL = $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check) --editable

# what runs and reports need
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

# what tests need beside it, and the methods of other libraries
$(VENV)/.installed-all: pyproject.toml $(VENV)/.installed
	$(INSTALL) ".[test]"
	# what the tests import is compiled once, here, and not by each of pytest's processes; so are they
	PYTHONPATH=tests $(BIN)/python -c "import shared, forked; forked.preload()"
	$(BIN)/python -m pytest --collect-only -qq > /dev/null
	touch $@

# A study: its configuration run by benchopt, then the report. $(1) name, $(2) where, $(3) options
define study
	rm -f outputs/$(notdir $(1)).parquet
	$(BIN)/benchopt run . --config configs/$(1).yml --no-display --output $(notdir $(1)) $(3)
	$(BIN)/python -m benchmark.report outputs/$(notdir $(1)).parquet --out $(2) $(4)
endef

# The studies under results/; each has the rows that it is made from beside it
STUDIES = quick gradient_error time_to_accuracy scaling methods compiled limits \
	cpu/weighted_norms cpu/plug_and_play cpu/drunet ridge/cpu ridge/published_cpu
# those with what the paper's statements are about: depths and restarts, and training
# (of cpu/plug_and_play and cpu/drunet the rows are of an older study, in which DEQ was none)
CLAIMS = quick gradient_error limits cpu/weighted_norms
# those on images that may not be passed on: their rows are kept without pictures
NO_PICTURES = cpu/weighted_norms ridge/cpu ridge/published_cpu
# those of the one figure on the first page, a column each
STORY = cpu/weighted_norms cpu/plug_and_play cpu/drunet
# those with benchopt's interactive page in the site: it takes minutes to make where runs are many
INTERACTIVE ?= quick cpu/drunet
# the figures of those that are not about everything; methods are ranked where each was swept alike
ONLY_time_to_accuracy = performance pareto
ONLY_scaling = scaling
ONLY_gradient_error = gradient_error pareto time memory reconstructions
ONLY_compiled = time
ONLY_limits = limits

# $(1) studies: those whose rows are there
run_already = $(foreach study,$(1),$(if $(wildcard results/$(study)/*.parquet),$(study)))

# $(1) a study: its configuration run, its rows kept. What an earlier call has finished is taken from
# the cache, which knows of the code; exit code 1 is a run that failed or is skipped: that is a row
define rows
	rm -f outputs/$(notdir $(1)).parquet
	$(BIN)/python -m benchmark run configs/$(1).yml --output $(notdir $(1)) || test $$? -eq 1
	mkdir -p results/$(1)
	$(if $(filter $(1),$(NO_PICTURES)),$(BIN)/python -m benchmark.report merge --without-pictures --out results/$(1)/$(notdir $(1)).parquet,cp -t results/$(1)) outputs/$(notdir $(1)).parquet

endef

# $(1) a study: its figures and tables, from the rows
define figures
	$(BIN)/python -m benchmark.report results/$(1)/*.parquet --out results/$(1) \
		$(addprefix --memory-curve ,$(wildcard results/$(1)/memory_curve.csv)) \
		$(if $(ONLY_$(notdir $(1))),--only $(ONLY_$(notdir $(1))))

endef

# The address of the project is `url` of objective.py; a page has no link while it says #ORG.
# $(1) a study: benchopt's interactive page of its rows, names without marks of HTML, beside their
# copy in outputs/site
define interactive
	$(BIN)/python -m benchmark.report plain results/$(1)/$(notdir $(1)).parquet --out outputs/site_$(notdir $(1)).parquet
	$(BIN)/benchopt plot . -f outputs/site_$(notdir $(1)).parquet --no-display
	sed -e 's|href="site_$(notdir $(1)).parquet"|href="$(notdir $(1)).parquet"|' \
		-e 's|href="benchmark_[^"]*.html"|href="../..$(if $(findstring /,$(1)),/..)/index.html"|' \
		-e 's|<a href="[^"]*\#ORG[^"]*"|<a hidden|' \
		outputs/benchmark_*_site_$(notdir $(1)).html > outputs/site/results/$(1)/interactive.html
	rm outputs/benchmark_*_site_$(notdir $(1)).html outputs/site_$(notdir $(1)).parquet

endef

run: $(VENV)/.installed
	$(BIN)/python -m benchmark.running.memory_curve --config configs/quick.yml --out outputs/quick/memory_curve.csv
	$(call study,quick,outputs/quick,--n-repetitions 1,--memory-curve outputs/quick/memory_curve.csv)
	@echo "The report is in outputs/quick, benchopt's page in outputs/benchmark_*_quick.html"

test: $(VENV)/.installed-all lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-long: $(VENV)/.installed-all
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --problems 40 --fuzz 100

lint: $(VENV)/.installed-all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

mutants: $(VENV)/.installed-all
	$(INSTALL) ".[test,mutants]"
	$(BIN)/python tools/mutants.py --out results/mutants.md

coverage: $(VENV)/.installed
	$(BIN)/python tools/simulated_coverage.py --out results/coverage.md

growth: $(VENV)/.installed
	$(BIN)/python tools/growth.py --out results/growth.md

faults: $(VENV)/.installed-all
	$(BIN)/python tools/faults.py --out results/faults.md

engines: $(VENV)/.installed-all
	$(INSTALL) ".[test,dask,slurm]"
	$(BIN)/python tools/engines.py

results: $(VENV)/.installed-all
	$(foreach study,$(filter-out time_to_accuracy,$(STUDIES)),$(call rows,$(study)))
	$(BIN)/python tools/time_to_accuracy.py --out results/time_to_accuracy/time_to_accuracy.parquet
	$(BIN)/python tools/time_to_train.py --out results/time_to_train
	$(BIN)/python -m benchmark.running.memory_curve --config configs/quick.yml --out results/quick/memory_curve.csv
	$(MAKE) report

report: $(VENV)/.installed
	$(foreach study,$(call run_already,$(STUDIES)),$(call figures,$(study)))
	$(BIN)/python -m benchmark.report claims $(foreach study,$(call run_already,$(CLAIMS)),results/$(study)/$(notdir $(study)).parquet) --out results/claims.md
	$(BIN)/python -m benchmark.report story $(foreach study,$(call run_already,$(STORY)),results/$(study)/$(notdir $(study)).parquet) --degradation motion_deblurring --out results/story.png
	$(BIN)/python -m benchmark.report numbers docs/index.md docs/results.md
	$(BIN)/python -m benchmark.report check results

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The site is in site/: open site/index.html"

$(VENV)/.installed-docs: pyproject.toml $(VENV)/.installed
	$(INSTALL) ".[docs,peers,search]"
	touch $@

site: $(VENV)/.installed
	rm -rf outputs/site
	mkdir -p outputs/site
	cp -r results outputs/site/
	$(foreach study,$(INTERACTIVE),$(call interactive,$(study)))
	$(MAKE) docs RESULTS=outputs/site/results

# twine sees that an index would take them; uploading them is left to whom it concerns
dist: $(VENV)/.installed
	$(filter-out --editable,$(INSTALL)) build twine
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

cpu: $(VENV)/.installed
	$(call study,photographs/weighted_norms,outputs/photographs/weighted_norms,,)
	$(call study,photographs/plug_and_play,outputs/photographs/plug_and_play,,)
	$(call study,photographs/drunet,outputs/photographs/drunet,,)

gpu: $(VENV)/.installed-all
	$(BIN)/python -c "import torch; assert torch.cuda.is_available(), 'no CUDA device here'"
	$(BIN)/python -m pytest -q
	$(call study,quick,outputs/gpu,--no-cache,)

clean-env:
	rm -rf $(VENV)
