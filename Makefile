# `make study` and `make test` each do all their own set-up on a fresh machine: Python 3.11+, make and pip are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out/first

.PHONY: study test test-slow mutants check format docs wheel clean
.DELETE_ON_ERROR:

study: $(VENV)/.installed
	$(BIN)/kleiber run studies/first.toml --out $(OUT)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -m slow

mutants: $(VENV)/.installed-dev  # the tool is no extra: 60 MB that nothing else uses, and a draw is that of its version
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt cosmic-ray==8.7.0
	$(BIN)/python scripts/mutants.py --json out/mutants.json

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check src tests benchmarks scripts docs
	$(BIN)/ruff check src tests benchmarks scripts docs
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

format: $(VENV)/.installed-dev
	$(BIN)/ruff format src tests benchmarks scripts docs
	$(BIN)/ruff check --fix src tests benchmarks scripts docs

docs: $(VENV)/.installed-dev
	$(BIN)/sphinx-build -W --keep-going docs docs/_build/html

wheel: $(VENV)/.installed-dev
	$(BIN)/hatchling build -t wheel -d dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Not compiled beforehand: of 280 MB of sources some 90 are ever imported, and those are compiled then.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) out dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
