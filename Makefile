# Two commands for a fresh machine: `make demo` and `make test`. Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/core.done
	$(BIN)/python tools/demo.py

test: $(VENV)/dev.done
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not zoo and not full"

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/core.done: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --no-compile --editable .
	touch $@

$(VENV)/dev.done: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[dev]"
	touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: graphprune needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "error: this Python cannot make virtual environments; run: sudo apt-get install -y python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
