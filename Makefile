# Everything runs in .venv/, which the first target that needs it makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CONFIG := configs/fcos_tresnet_m.py
DEMO := work_dirs/fcos_tresnet_m_demo

# Waiting OpenMP threads go to sleep soon. By default they spin, which holds up the threads that
# work where something else takes a core: with one of two cores busy, a step was ten times slower.
export GOMP_SPINCOUNT := 1000

.PHONY: install demo test test-slow test-all lint format clean

install: $(INSTALLED)

# Wheels only: nothing is compiled. constraints.txt holds the versions that the tests ran on.
$(INSTALLED): setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --only-binary :all: -c constraints.txt -e '.[lite,test]'
	touch $@

# Train FCOS on TResNet-M on the embedded digits, then measure and draw what it learned.
demo: $(INSTALLED)
	$(BIN)/python tools/train.py $(CONFIG) --demo --work-dir $(DEMO)
	$(BIN)/python tools/test.py $(CONFIG) $(DEMO) --demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -m 'not slow and not real' --cov --cov-fail-under=90

# What takes minutes or needs the real photographs (TRESNET_DET_DATA).
test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m 'slow or real'

test-all: lint test test-slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache
