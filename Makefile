# The commands for people and .ci/run; `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
# A link to the template body, whose own name is full of braces.
BODY := template
DEMO := build/image-classifier
TYPED := build/lint
# No test in them is fast, and reading them takes each process of the fast tests three seconds.
SLOW_FOLDERS := cluster end_to_end kubeflow manifests
# Tests and generated projects run make themselves, without the flags and variables of this run.
ALONE := env -u MAKEFLAGS -u MFLAGS -u MAKEOVERRIDES -u MAKELEVEL
# Ruff's cache stays here: cookiecutter would copy one in the body into projects.
export RUFF_CACHE_DIR := $(CURDIR)/.ruff_cache
# Copies the body's Python into its SQL, or checks the copies. -B: no compiled file may stay in the body.
SQL = cd $(BODY) && for folder in . $(patsubst $(BODY)/%/database,%,$(wildcard $(BODY)/variants/*/database)); do \
	"$(CURDIR)/$(BIN)/python" -B -m local sql $(1) "$$folder" . || exit; done
# `make -n` runs a recipe line that contains $(MAKE) itself; it only prints a line with this variable.
SUBMAKE := $(ALONE) $(MAKE)
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url $(if $(UPGRADE),--upgrade)

# $(call need,COMMAND THAT SUCCEEDS IF THE PACKAGE IS INSTALLED,DEBIAN PACKAGE)
define need
if ! $(1) >/dev/null 2>&1; then \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -qq -y --no-install-recommends $(2) >/dev/null; \
	else \
		echo '$(2) is missing: install it with "sudo apt-get install $(2)".' >&2; exit 1; \
	fi; \
fi
endef

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[.a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

.PHONY: .venv
.venv: .venv/installed ## install the Python environment of this repository, from requirements.txt

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo '$(PYTHON) is missing or older than 3.11: name another with "make PYTHON=python3.12".' >&2; exit 1; }
	@$(call need,$(PYTHON) -c 'import ensurepip',python3-venv)
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt
	@touch $@

.PHONY: test-fast
test-fast: .venv ## run the fast tests (less than a minute together)
	$(ALONE) $(BIN)/python -m pytest -m 'not slow and not cluster' --numprocesses auto \
		$(SLOW_FOLDERS:%=--ignore=tests/%)

.PHONY: test
test: lint test-fast ## run every check and every test except those on a cluster
	$(ALONE) $(BIN)/python -m pytest -m 'slow and not cluster' --numprocesses 2 --dist loadgroup --no-loadscope-reorder

.PHONY: test-security
test-security: .venv ## carry out the attacks of docs/explanation/security.md, which are also part of `make test`
	$(ALONE) $(BIN)/python -m pytest -m security --numprocesses 2 --dist loadgroup --no-loadscope-reorder

.PHONY: test-cluster
test-cluster: .venv ## test a generated project on a real Kubernetes, which it starts (as root on Linux)
	$(ALONE) $(BIN)/python -m pytest tests/cluster

.PHONY: cluster-up
cluster-up: .venv ## start that Kubernetes, to try a project on it (as root on Linux)
	@PYTHONPATH=tests $(BIN)/python -m cluster up

.PHONY: cluster-down
cluster-down: .venv ## stop that Kubernetes and remove its data
	@PYTHONPATH=tests $(BIN)/python -m cluster down

.PHONY: lint
lint: .venv types ## check style, types, YAML, shell and SQL
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .yamllint .pre-commit-config.yaml .github *.yaml tests/cluster/modules tests/tools/argo
	$(BIN)/python -m accelerator_engine lint
	$(BIN)/python -m accelerator_engine derive --check
	$(call SQL,--check)
	@$(call need,command -v shellcheck,shellcheck)
	shellcheck .ci/run $(BODY)/deploy/images/*.sh $(BODY)/variants/*/deploy/*.sh
	cd $(BODY) && "$(CURDIR)/$(BIN)/sqlfluff" lint database variants/*/database/training
	cd $(BODY) && "$(CURDIR)/$(BIN)/sqlfluff" lint --dialect postgres variants/*/database/inference

.PHONY: types
types: .venv ## check the types of two generated projects: the default one, and a table with every part
	@rm -rf $(TYPED) && mkdir -p $(TYPED)
	@$(BIN)/cookiecutter --no-input --default-config --output-dir $(TYPED) . >/dev/null
	@$(BIN)/cookiecutter --no-input --default-config --output-dir $(TYPED) . projectName=table-with-all dataset=table \
		includePgadmin=true includeNotebook=true includeDatahub=true appPlatform=kubernetes >/dev/null
	@set -e; for project in $(TYPED)/*/; do $(SUBMAKE) --no-print-directory -C "$$project" types; done

.PHONY: derive
derive: .venv ## write the files derived from accelerator.yaml, and the copies of database/python in SQL
	$(BIN)/python -m accelerator_engine derive
	$(call SQL)

.PHONY: docs
docs: .venv ## build the documentation into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: sql
sql: derive ## the copies of database/python, as `make sql` writes them in a generated project

.PHONY: openapi
openapi: .venv ## rewrite app/openapi.json of the template body, for images and for a table
	@folder="$$(mktemp -d)"; trap 'rm -rf "$$folder"' EXIT; set -e; \
	for dataset in digits table; do \
		$(BIN)/cookiecutter --no-input --default-config --output-dir "$$folder/$$dataset" . projectName=the-name \
			description='The description' dataset="$$dataset" >/dev/null; \
		$(SUBMAKE) --no-print-directory -C "$$folder/$$dataset/the-name" openapi; \
		sed -e 's/"title": "the-name"/"title": "{{ cookiecutter.projectName }}"/' \
			-e 's/"description": "The description"/"description": "{{ cookiecutter.description }}"/' \
			"$$folder/$$dataset/the-name/app/openapi.json" \
			> $(BODY)/variants/$${dataset/digits/images}/app/openapi.json; \
	done

.PHONY: demo
demo: .venv ## generate the default project into build/ and run its demo
	@mkdir -p build
	@$(BIN)/cookiecutter --no-input --default-config --overwrite-if-exists --output-dir build .
	@$(SUBMAKE) --no-print-directory -C $(DEMO) demo

.PHONY: down
down: ## stop the demo's servers
	@if [ -f $(DEMO)/Makefile ]; then $(SUBMAKE) --no-print-directory -C $(DEMO) down; fi

.PHONY: bench
bench: .venv ## run the benchmarks and compare them with the limits and the alternatives
	$(BIN)/python -m benchmarks

.PHONY: pictures
pictures: .venv ## retake the README's pictures during the browser tests
	@mkdir -p docs/pictures
	$(ALONE) PICTURES="$(CURDIR)/docs/pictures" $(BIN)/python -m pytest \
		tests/end_to_end/test_browser.py tests/end_to_end/test_page_lifecycle.py

.PHONY: lock
lock: .venv ## rewrite the lock files (UPGRADE=1: with the newest versions)
	$(BIN)/$(COMPILE) --extra engine --extra dev --output-file requirements.txt pyproject.toml
	@folder="$$(mktemp -d)"; trap 'rm -rf "$$folder"' EXIT; set -e; \
	cp $(BODY)/requirements/* $(BODY)/variants/*/requirements/* "$$folder"; \
	for role in $(BODY)/requirements/*.in $(BODY)/variants/*/requirements/*.in; do \
		name="$$(basename "$$role" .in)"; \
		(cd "$$folder" && "$(CURDIR)/$(BIN)/"$(COMPILE) --overrides overrides.txt --output-file "$$name.txt" "$$name.in"); \
		cp "$$folder/$$name.txt" "$${role%.in}.txt"; \
	done

.PHONY: clean
clean: down ## stop the demo and remove all build results
	rm -rf .venv build .hypothesis
	find . -type d \( -name __pycache__ -o -name '.*_cache' \) -prune -exec rm -rf {} +
