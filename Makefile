# make test   style, types and tests
# make demo   scenes recorded, replayed and compared with the truth; bags, figures and a picture, in demo/
# make benchmark   the figures of docs/benchmarks anew, on this machine's CPU; some nine minutes with nothing beside it
#
# All set up what they need in .venv first. PYTHON=python3.12 chooses the interpreter.

ifndef PYTHON
PYTHON := $(or $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$python && break; done),python3)
endif
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
PIP = .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input --constraint constraints.txt

.PHONY: test demo benchmark

# Small tensors: more threads cost more than they bring.
test: export OMP_NUM_THREADS ?= 1
test demo benchmark: export HF_HUB_OFFLINE = 1

test: .venv/installed-$(VERSION)
	.venv/bin/ruff check --quiet
	.venv/bin/ruff format --check --quiet
	.venv/bin/mypy
	.venv/bin/python -m pytest

demo: .venv/installed-$(VERSION)
	.venv/bin/diffusion-perception demo --out demo

benchmark: .venv/installed-$(VERSION)
	.venv/bin/python benchmark/figures.py

# setuptools comes first, and without build isolation, so that it is the pinned one, too, and is not downloaded twice.
.venv/installed-$(VERSION): .venv/python-$(VERSION) pyproject.toml setup.py setup.cfg constraints.txt
	@echo "Installing into .venv; the first time takes some minutes."
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation --editable '.[test]'
	@touch $@

.venv/python-$(VERSION):
	@$(if $(VERSION),,$(error '$(PYTHON)' does not run; install Python 3.10 or newer, or choose one with 'make PYTHON=/path/to/python'))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "$(PYTHON) is Python $(VERSION), and 3.10 or newer is needed; choose one with 'make PYTHON=python3.11'." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) (Python $(VERSION)) comes without venv; install it, on Debian and Ubuntu with 'apt-get install python$(VERSION)-venv'." >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv
	@touch $@
