# `make demo` and `make test` set up all they need: a virtual environment with pinned packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# test processes beside each other: most tests wait more than they compute
WORKERS ?= 4
FUZZ_SECONDS ?= 60
# as pyenv has them, else as they are on PATH
PYTHONS ?= $(foreach v,3.12 3.13,$(or $(lastword $(wildcard $(HOME)/.pyenv/versions/$(v).*/bin/python$(v))),python$(v)))

.PHONY: demo test unit check format lint types audit fuzz test-pythons docs pictures clean

demo: $(READY)
	@$(BIN)/gigawatch up --fault gpu-thermal@R0001-N03-GPU2:60+180 --fault coolant-flow@R0003:120+180

# unit tests first, then services, the long ones first (tests/conftest.py); tests of one group share a fixture
test: $(READY)
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup --no-loadscope-reorder

unit: $(READY)
	@$(BIN)/python -m pytest --numprocesses 2 -m "not service and not apache"

check: format lint types test

format: $(READY)
	@$(BIN)/ruff format --check .

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/python -m tests.hygiene
	@$(BIN)/gigawatch dashboards build --check

types: $(READY)
	@$(BIN)/mypy

# its own environment: what audits is no dependency
audit: $(READY)
	@test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1; }
	@build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --format json --progress-spinner off 2>/dev/null | $(BIN)/python -m tests.audit

# each reader for a minute, from another seed each time
fuzz: $(READY)
	@GIGAWATCH_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest --numprocesses 2 tests/test_fuzz.py

# the unit tests on the other Pythons that are installed here, each in an environment of its own
test-pythons:
	@for python in $(PYTHONS); do \
	  if $$python -c '' 2>/dev/null; then $(MAKE) --no-print-directory unit PYTHON=$$python VENV=build/$$(basename $$python) || exit 1; \
	  else echo "$$python is not installed: not tested"; fi; \
	done

docs: $(READY)
	@$(BIN)/gigawatch catalogue --markdown > docs/catalogue.md
	@$(BIN)/gigawatch config example > docs/gigawatch.example.toml
	@$(BIN)/gigawatch catalogue sources --page docs/producers.md
	@$(BIN)/gigawatch dashboards build

# ten minutes, and a Chromium
pictures: $(READY)
	@$(BIN)/python -m tests.pictures

$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV): about a minute, once"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gigawatch needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --constraint constraints.txt pip setuptools
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
