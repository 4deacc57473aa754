# `make` lists the targets. Every target that needs the environment builds it first, and rebuilds it only when
# pyproject.toml or constraints.txt is newer than the stamp.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format prior model bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install limner in it, once

# The stamp is touched last: an installation that was interrupted is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "limner needs Python 3.11 or newer; name one with 'make PYTHON=/path/to/python'" >&2; exit 1; }
	@echo "installing into $(VENV) (once; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## segment a brain that ships with a dependency; prints where the report is
	$(BIN)/limner demo

# One thread each: the tests are many small sums, and threads that wait for one another spin on a busy machine.
test: $(STAMP) ## run the tests (LIMNER_DATA=FOLDER adds those on real data)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

check: $(STAMP) ## style, types and house rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet --durations=0 --durations-min=1 tests/house

format: $(STAMP) ## let ruff lay out and mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

prior: $(STAMP) ## build the prior that ships, from MAPS="label maps"
	@test -n "$(MAPS)" || { echo 'expected MAPS="label maps", such as make prior MAPS="maps/*.nii.gz"' >&2; exit 2; }
	$(BIN)/limner atlas $(MAPS) --spacing 1.5 -o src/limner/atlases/brain

model: $(STAMP) ## build the shape model that ships, with the prior that ships, from MAPS="folder of label maps"
	@test -n "$(MAPS)" || { echo 'expected MAPS="folder of label maps", such as make model MAPS=maps' >&2; exit 2; }
	$(BIN)/limner train recipes/anatomy.toml -o build/anatomy --set data.maps=$(MAPS) --set data.scans= --set stages.scans=
	mkdir -p src/limner/models/anatomy
	cp build/anatomy/model/model.json build/anatomy/model/weights.safetensors src/limner/models/anatomy

bench: $(STAMP) ## measure accuracy and speed (LIMNER_DATA=FOLDER); hours, never part of the tests
	@test -n "$(LIMNER_DATA)" || { echo 'expected LIMNER_DATA=FOLDER: the benchmarks read real scans' >&2; exit 2; }
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/brains.py
	$(BIN)/python benchmarks/robustness.py

clean: ## remove .venv and everything that tools leave behind
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
