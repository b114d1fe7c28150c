# `make demo` and `make test` set up all they need: a virtual environment with pinned packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test check lint types audit docs pictures clean

demo: $(READY)
	@$(BIN)/gigawatch up --fault gpu-thermal@R0001-N03-GPU2:60+180 --fault coolant-flow@R0003:120+180

# two files at a time, the long ones first: most of them wait more than they compute
test: $(READY)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: lint types test

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/gigawatch dashboards build --check

types: $(READY)
	@$(BIN)/mypy

# its own environment: what audits is no dependency
audit: $(READY)
	@test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1; }
	@build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --format json --progress-spinner off 2>/dev/null | $(BIN)/python -m tests.audit

docs: $(READY)
	@$(BIN)/gigawatch catalogue --markdown > docs/catalogue.md
	@$(BIN)/gigawatch catalogue sources --page docs/producers.md
	@$(BIN)/gigawatch config example > docs/gigawatch.example.toml
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
