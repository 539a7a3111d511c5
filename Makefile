# `make` shows the verbs. Nothing but Python >= 3.11 (with venv) and make is needed, and no root.

# The first Python on PATH that is new enough; `make PYTHON=...` names another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
ROUNDS ?= 100
SEEDS ?= 1000
FIRST ?= 1
PYTEST := $(BIN)/python -m pytest -q
# These kill and freeze processes under load: one after the other, on a machine that does nothing else.
ALONE := $(wildcard tests/faults)
T ?=

.DEFAULT_GOAL := help
.PHONY: help setup run demo test lint check bench chaos simulate openapi format documents

help: ## show the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## install into .venv, the program as .venv/bin/gledger; nothing else

run: $(READY) ## set up, start on this machine alone, tell the story, stay up (http://127.0.0.1:8080)
	$(BIN)/gledger dev --demo

demo: $(READY) ## tell the story against a server that runs already
	$(BIN)/gledger demo

test: $(READY) ## run every test (T=tests/unit for some of them)
ifeq ($(T),)
	$(PYTEST) -n 2 --dist loadfile $(ALONE:%=--ignore=%)
	$(if $(ALONE),$(PYTEST) $(ALONE))
else
	$(PYTEST) $(T)
endif

lint: $(READY) ## style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint documents test ## everything that must hold: lint, committed documents, tests

documents: $(READY)
	$(BIN)/python -m openapi.build --check

bench: $(READY) ## measure, beside baselines in the same run, and print ratios
	$(BIN)/python -m bench

chaos: $(READY) ## kill and freeze real processes under load, for ROUNDS=100 rounds
	$(PYTEST) tests/faults/test_rounds.py --rounds $(ROUNDS)

simulate: $(READY) ## explore SEEDS=1000 stories of death, delay and loss in virtual time
	PYTHONHASHSEED=0 $(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST)

openapi: $(READY) ## build the committed documents again
	$(BIN)/python -m openapi.build

format: $(READY) ## let ruff put the source in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): requirements/dev.txt pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "GLedger Live needs Python 3.11 or newer with venv. Debian, Ubuntu: apt install python3 python3-venv." \
			"Or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@echo "Installing into .venv; about a minute the first time."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
