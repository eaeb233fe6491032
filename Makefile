# `make demo` and `make test` set up everything they need, on a machine with nothing but Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all check docs release format clean

demo: $(READY)
	$(BIN)/augcond demo

test: $(READY)
	$(BIN)/pytest -n auto --dist loadfile

test-all: $(READY)
	$(BIN)/pytest -n auto --dist loadfile -m ""

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(MAKE) --no-print-directory docs

# Warnings are errors, links and anchors included.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Wheel and sdist, tried in an environment of their own: minutes, and gigabytes of PyTorch.
release: $(READY)
	$(BIN)/python -m tools.try_release

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# PyTorch first, as a pair that fits: left to the resolver, torch and torchvision can come from different builds.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "torch==2.14.1" "torchvision==0.29.1"
	$(BIN)/pip install --quiet --editable ".[dev,docs]"
	touch $@
