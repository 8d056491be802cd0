# The two commands that matter: `make quickstart` and `make test`. Both do all the set-up they need.

VENV ?= .venv
# Pythons of the two stacks, newest first; those that pyenv keeps beside the one in use are found too.
of_pyenv = $(foreach v,$(1),$(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/$(v).*/bin/python3))
CURRENT := python3.13 python3.12 $(call of_pyenv,3.13 3.12)
HOME_STACK := python3.11 python3.10 python3.9 $(call of_pyenv,3.11 3.10 3.9)
# The first of these that runs, is a supported version and can make virtual environments is taken.
PYTHON ?= $(CURRENT) $(HOME_STACK) python3
# The detector of `make quickstart`: retinanet, or yolov8_xs and the other sizes.
MODEL ?= retinanet
# More flags for `make quickstart`, for example ARGS="--epochs=2".
ARGS ?=
# What `make test` runs, for example TESTS="tests/losses tests/models".
TESTS ?= tests

QUICKSTART := quickstart$(if $(filter yolov8%,$(MODEL)),_yolov8)
INSTALLED := $(VENV)/.harmonic_tf_installed
SUPPORTED := import ensurepip, sys, venv; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))

.DELETE_ON_ERROR:
.PHONY: help quickstart test test-home test-current lint docs clean

help:  ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s%s\n", $$1, $$2}' Makefile
	@echo 'Variables: VENV=$(VENV)  PYTHON=/path/to/python  MODEL=yolov8_xs  ARGS="flags for quickstart"  TESTS="tests/losses"'

quickstart: $(INSTALLED)  ## Install, render pictures, train, evaluate: everything lands in runs/quickstart
	$(VENV)/bin/harmonic-tf train --preset=$(QUICKSTART) --model=$(MODEL) \
	  --run_dir=runs/$(QUICKSTART) --overwrite $(ARGS)

test: lint  ## Install, check the style, run the tests
	$(VENV)/bin/python -m pytest -n 2 --dist=loadfile --no-loadscope-reorder $(TESTS)

test-home:  ## The same on Python 3.9 to 3.11: TensorFlow 2.15, Keras 2, tensorflow-addons
	$(MAKE) test VENV=$(VENV)-home PYTHON='$(HOME_STACK)'

test-current:  ## The same on Python 3.12 or later: current TensorFlow, Keras 3
	$(MAKE) test VENV=$(VENV)-current PYTHON='$(CURRENT)'

lint: $(INSTALLED)  ## Install, check the style
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

docs: $(VENV)-docs/.installed  ## Write the documentation as a site into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --clean --site-dir=site

clean:  ## Remove caches and build output; the environment and runs/ stay
	rm -rf .build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find harmonic_tf flags tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The site is made from the sources alone: neither TensorFlow nor the package is needed.
$(VENV)-docs/.installed: docs/requirements.txt
	@for python in $(PYTHON); do \
	  "$$python" -c '$(SUPPORTED)' >/dev/null 2>&1 && exec "$$python" -m venv $(VENV)-docs; \
	done; exit 1
	$(VENV)-docs/bin/python -m pip install --disable-pip-version-check --requirement docs/requirements.txt
	@touch $@

# Installs again when the requirements or the version change; an editable install needs no more.
$(INSTALLED): setup.cfg setup.py pyproject.toml harmonic_tf/__init__.py
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || { \
	  for python in $(PYTHON); do \
	    "$$python" -c '$(SUPPORTED)' >/dev/null 2>&1 && exec "$$python" -m venv $(VENV); \
	  done; \
	  echo 'No Python 3.9 to 3.13 that can make virtual environments (tried: $(PYTHON)).' >&2; \
	  echo 'Install one (Debian, Ubuntu: apt install python3 python3-venv), or name one:' >&2; \
	  echo '  make PYTHON=/path/to/python3.13 $(MAKECMDGOALS)' >&2; \
	  exit 1; }
	$(VENV)/bin/python -m pip install --disable-pip-version-check --upgrade pip
	$(VENV)/bin/python -m pip install --editable '.[test]'
	@touch $@
