# Self-contained targets: each makes .venv when it is missing and installs what it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
REQUIREMENTS := setup.cfg pyproject.toml constraints.txt

.PHONY: help demo test test-all quality format clean distclean

help:
	@echo "make demo       reconstruct the sample portrait into ./demo_output"
	@echo "make test       run the tests (make test-all: the slow ones too)"
	@echo "make quality    ruff and mypy (make format: rewrite the files)"
	@echo "make clean      remove what was built and made (make distclean: $(VENV) too)"

demo: $(VENV)/.installed-demo
	$(BIN)/relightify demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not slow"
	@echo "The tests passed; their results are in the lines above."

test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest
	@echo "All tests passed, the slow ones included; their results are in the lines above."

quality: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Torch goes first and alone: it is by far the largest download, and a failure there is then easy to see.
$(VENV)/.installed-base: $(REQUIREMENTS)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || \
		{ echo "Python 3.10 to 3.12 is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt torch
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed-base
	$(PIP) install --quiet -c constraints.txt -e '.[$*]'
	@touch $@

clean:
	rm -rf build dist *.egg-info demo_output .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
