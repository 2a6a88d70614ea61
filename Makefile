# Works on a bare Debian or Ubuntu with python3, python3-venv and make: no GPU, no root.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

QUICKSTART_WORKDIR := runs/quickstart
ifdef SHORT
QUICKSTART_WORKDIR := runs/quickstart-short
QUICKSTART_FLAGS ?= --config.train.steps=60
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help quickstart test test-fast test-thorough reliability test-slurm accelerators lint docs install clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 20

quickstart: $(VENV)/.with-demo  ## train GRUs and LSTMs on synthetic speech and compare them (SHORT=1: a mere try)
	$(BIN)/python -m gru_audio.prepare tts_digits
	$(BIN)/python -m gru_audio.sweep --config experiments/quickstart.py \
	    --workdir $(QUICKSTART_WORKDIR) $(QUICKSTART_FLAGS)
	@echo "Open $(QUICKSTART_WORKDIR)/report/index.html in a browser to see which won."

test: $(VENV)/.with-demo $(VENV)/.with-test  ## run the tests (PYTEST_FLAGS: what else to tell pytest)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

test-thorough: $(VENV)/.with-demo $(VENV)/.with-test  ## run the longer tests, which the CI runs too
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder \
	    -m 'thorough and not reliability and not slurm' $(PYTEST_FLAGS)

test-fast: $(VENV)/.with-demo $(VENV)/.with-test  ## run the tests that start no command: about half of the time
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder \
	    -m 'not commands and not reliability and not slurm and not thorough' $(PYTEST_FLAGS)

reliability: $(VENV)/.with-demo $(VENV)/.with-test  ## run the fault tests (kills, damage, full disks); print their table
	$(BIN)/python -m pytest -m reliability $(PYTEST_FLAGS)

test-slurm: $(VENV)/.with-demo $(VENV)/.with-test  ## run sweeps under a SLURM of this machine's own
	@command -v slurmctld slurmd munged >/dev/null || { \
	    echo "SLURM is missing. On Debian or Ubuntu: apt install slurm-wlm munge"; exit 1; }
	$(BIN)/python -m pytest -m slurm $(PYTEST_FLAGS)

TOPOLOGY ?= v5e:2x2
accelerators: $(VENV)/.with-demo $(VENV)/.with-test $(VENV)/.with-aot  ## compile all experiments for TPUs that are not here (TOPOLOGY; continues)
	$(BIN)/python -m tests.accelerators --topology $(TOPOLOGY) $(EXPERIMENTS)

lint: $(VENV)/.with-dev  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.with-docs  ## build the documentation as a site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html in a browser. To search: python3 -m http.server --directory site"

install: $(VENV)/.with-demo $(VENV)/.with-test $(VENV)/.with-dev  ## set up .venv with all that development needs

clean:  ## remove .venv and caches, keep runs
	rm -rf $(VENV) build dist site *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# Each extra of pyproject.toml that is installed leaves a stamp, so that a second call is quick.
$(VENV)/.with-%: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing gru_audio[$*] into $(VENV): a minute or two, mostly downloading."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c '' 2>/dev/null || { \
	    echo "There is no $(PYTHON) that runs. On Debian or Ubuntu: apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	    echo "gru_audio runs on Python 3.11, 3.12 and 3.13, and $(PYTHON) is $$($(PYTHON) --version)."; \
	    echo "Name another one: make PYTHON=/path/to/python3.13 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make virtual environments. On Debian or Ubuntu: apt install python3-venv"; \
	    exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@
