PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint format benchmark docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "the pinned environment needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,peers]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps skpro scikit-base
	$(BIN)/resnet-gp compile
	touch $@

demo: setup
	$(BIN)/resnet-gp demo

# One process for each file: two would compute the same fixtures.
test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: setup
	$(BIN)/python benchmarks/run_all.py $(if $(DATA),--data $(DATA)) $(if $(HOURS),--hours $(HOURS))

docs: setup
	$(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html, or: $(BIN)/python -m mkdocs serve"

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache demo-output site
