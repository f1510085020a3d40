# Everything runs in .venv/, which the first target that needs it makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(notdir $(lastword $(PYTHON)))
CONFIG := configs/fcos_tresnet_m.py
DEMO := work_dirs/fcos_tresnet_m_demo

# Waiting OpenMP threads go to sleep soon. By default they spin, which holds up the threads that
# work where something else takes a core: with one of two cores busy, a step was ten times slower.
# Sleeping at once (1000) costs a quarter of the demo's speed on free cores, 20000 a quarter on busy ones.
export GOMP_SPINCOUNT := 10000

# A process for each core, each with one torch thread; tests that share a fixture run in one process.
PYTEST := env OMP_NUM_THREADS=$(or $(OMP_NUM_THREADS),1) $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadgroup

.PHONY: help install demo gpu test test-slow test-all coverage lint format docs clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' Makefile | while read -r name text; do printf 'make %-11s %s\n' "$$name" "$$text"; done

install: $(INSTALLED)  ## make .venv/ with the versions of constraints.txt, from wheels alone
	@echo 'installed; now: . $(BIN)/activate'

# uv takes a third of pip's time; pip serves where uv cannot be had, or does not get through. Bytecode
# at once, as pip makes it: where Python may not write it later, each process would compile for 8 s.
# uv counts the clone itself among what it may not build.
WHEELS := --quiet --only-binary :all: --no-binary tresnet-det
PACKAGES := -c constraints.txt -e '.[lite,test]'
# An environment that is there would stay of its Python: of another one, it is made again.
VERSION := -c 'import sys; print(sys.version_info[:2])'
$(INSTALLED): setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $$(test "$$($(BIN)/python $(VERSION) 2>&1)" = "$$($(PYTHON) $(VERSION))" || echo --clear) $(VENV)
	$(BIN)/python -m pip install $(WHEELS) uv \
	&& $(BIN)/python -m uv pip install --compile-bytecode --python $(BIN)/python $(WHEELS) $(PACKAGES) \
	|| $(BIN)/python -m pip install $(WHEELS) $(PACKAGES)
	touch $@

demo: $(INSTALLED)  ## train a small FCOS-TResNet on embedded data, measure it, draw what it finds
	$(BIN)/python tools/train.py $(CONFIG) --demo --work-dir $(DEMO)
	$(BIN)/python tools/test.py $(CONFIG) $(DEMO) --demo

test: $(INSTALLED)  ## the tests, in minutes
	$(PYTEST) -m 'not slow and not real' $(ARGS)

test-slow: $(INSTALLED)  ## what takes minutes, or needs the real photos (TRESNET_DET_DATA)
	$(PYTEST) -m 'slow or real' $(ARGS)

coverage:  ## the tests, with at least 90 % of the package's lines run
	$(MAKE) test ARGS='--cov --cov-fail-under=90'

test-all: lint coverage test-slow docs  ## all of that

docs: $(INSTALLED)  ## build/site/: the pages of docs/, and each tool, config and class
	$(BIN)/python -m uv pip install --python $(BIN)/python $(WHEELS) -c constraints.txt -e '.[docs]' \
	|| $(BIN)/python -m pip install $(WHEELS) -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# Not of .venv/ alone: a machine with a GPU may have its own PyTorch, and no network.
gpu:  ## measure all that a GPU can answer in 8 minutes; DRY=1 rehearses it on the CPU
	$(or $(wildcard $(BIN)/python),$(PYTHON)) tools/benchmark.py --all $(if $(DRY),--dry) $(ARGS)

lint: $(INSTALLED)  ## ruff, the format, and mypy over the package
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(INSTALLED)  ## fix what ruff can fix
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean:  ## remove build products and caches, but not .venv/, data/ and work_dirs/
	rm -rf build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache
