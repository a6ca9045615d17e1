# Everything a contributor runs. Each target makes .venv first if need be, and installs again only when
# setup.cfg or pyproject.toml changed. Interrupted half-way, the next run starts .venv afresh.

PYTHON ?= python3
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
MADE := $(VENV)/.made-by-$(subst /,_,$(PYTHON))

# The matrices here are small: a second BLAS thread gains nothing, and waits for long where another program has its core.
export OPENBLAS_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo docs test coverage test-slow lint bench reference venv clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo 'More arguments go through ARGS: make demo ARGS="--seed 1"; another Python: make test PYTHON=python3.13'

demo: $(VENV)/.demos  ## train the pronoun toy and show what it learned
	$(RUN) -m demos.pronoun $(ARGS)

test: $(VENV)/.test  ## run the tests, on all cores
	$(RUN) -m pytest --numprocesses auto $(ARGS)

coverage: $(VENV)/.test  ## run the tests, and list the lines that none of them reaches
	$(RUN) -m pytest --numprocesses auto --cov --cov-report=term $(ARGS)

test-slow: $(VENV)/.test  ## run the slow tests only
	$(RUN) -m pytest -m slow $(ARGS)

lint: $(VENV)/.test  ## check style (ruff) and types (mypy, strict)
	$(RUN) -m ruff check .
	$(RUN) -m mypy

# PyTorch brings gigabytes for GPUs along; PIP_EXTRA_INDEX_URL=<where its CPU wheels are> make bench does not.
bench: $(VENV)/.bench  ## time everything beside its peers (downloads them, PyTorch too) into benchmarks/RESULTS.md
	$(RUN) -m benchmarks $(ARGS)

docs: $(VENV)/.docs  ## build the pages of docs/ as a site that is read offline, into out/docs
	$(RUN) -m sphinx -b html -W --keep-going -q docs out/docs $(ARGS)
	@echo "out/docs/index.html"

reference: $(VENV)/.test  ## write docs/reference.md from the docstrings
	$(RUN) docs/make_reference.py

venv: $(VENV)/.test  ## make .venv with everything the targets above need

clean:  ## remove .venv, caches and build leftovers (out/ stays)
	rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp's name holds the interpreter's: asking for another one makes .venv anew, and so does an unfinished install.
$(MADE): $(wildcard $(VENV)/unfinished)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "tinyattn needs Python 3.11 or later; '$(PYTHON)' is not one. Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@rm -f $(VENV)/.made-by-*
	@$(PYTHON) -m venv --clear $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.%: $(MADE) setup.cfg pyproject.toml
	@echo "Installing tinyattn[$*] into $(VENV) ..."
	@touch $(VENV)/unfinished
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[$*]' || { \
	  rm $(VENV)/unfinished; exit 1; }  # pip ended by itself: what was there still works
	@rm $(VENV)/unfinished
	@touch $@
