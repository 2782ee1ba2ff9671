# `make demo` trains a small language model on this machine; `make test` runs every check. Each sets up all it needs in ./.venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test install lint types imports docs-check unit docs clean

demo: install
	$(BIN)/llmkit train recipe:tiny

test: install lint types imports docs-check unit

install: $(VENV)/.installed

# torch first and by itself, so that the pinned build is what everything else finds.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[data,hf,plot,toxicity,trackers,test]"
	touch $@

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports

docs-check:
	$(BIN)/python docs/generate.py --check

# One thread each: threads of several workers on the same cores wait for each other, spinning, and everything takes several times as long.
unit:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

docs:
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist *.egg-info
