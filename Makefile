# Two commands do everything on a fresh machine that has Python >= 3.11 and make:
#   make demo    install, start, and print the page to open
#   make test    install, then lint, types, contracts and every test
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PORT   ?= 8080

.PHONY: help demo test lint types contracts unit bench clean
help: ## Show the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.installed: pyproject.toml requirements/run.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements/run.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements/test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements/test.txt
	@touch $@

demo: $(VENV)/.installed ## Install, start heartcast and print the page to open
	$(BIN)/heartcast demo --port $(PORT)

test: lint types contracts unit ## Install the test tools, then run every check there is

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

contracts: $(VENV)/.installed-test
	$(BIN)/lint-imports

unit: $(VENV)/.installed-test
	$(BIN)/python -m pytest

bench: $(VENV)/.installed-test ## Measure; writes benchmarks/results/*.json
	$(BIN)/python -m benchmarks

clean: ## Remove everything that make installed
	rm -rf $(VENV) node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
