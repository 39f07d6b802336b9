# Two commands do all set-up: `make up` runs the system, `make test` tests it.
.DEFAULT_GOAL := help
.PHONY: help up demo test unit lint format bench reset clean

PYTHON ?= python3
PY := .venv/bin/python
INSTALLED := .venv/.installed

help: ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

up: $(INSTALLED) ## Start everything, take the tour, serve until Ctrl-C (ARGS=--json, --no-tour)
	@$(PY) -m infra.local up $(ARGS)

demo: $(INSTALLED) ## The same without serving: exits with 0 or 1 (ARGS=--json)
	@$(PY) -m infra.local demo $(ARGS)

test: $(INSTALLED) ## All tests, against real parts (ARGS: passed to pytest)
	@$(PY) -m pytest $(ARGS)

unit: $(INSTALLED) ## Only the fast tests that need no other process
	@$(PY) -m pytest tests/unit $(ARGS)

lint: $(INSTALLED) ## Format, lint, types, import rules
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

format: $(INSTALLED) ## Format and mend what can be mended
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

bench: .venv/.bench-installed ## Benchmarks: medians, ratios against a floor of the same run (ARGS: names)
	@$(PY) -m tests.benchmarks $(ARGS)

reset: $(INSTALLED) ## Delete the local stack's data (ARGS=--dry-run, --yes)
	@$(PY) -m infra.local reset $(ARGS)

clean: ## Remove the environment and caches; the local stack's data is kept
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

.venv/.bench-installed: $(INSTALLED) requirements-bench.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@touch $@

$(INSTALLED): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "installing into .venv (once)"
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
