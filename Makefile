.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export VOXELIGHT_HOME ?= $(CURDIR)/.voxelight
# Real recordings, where they lie beside the checkout; the demo simulates a subject where they do not.
DATA ?= $(wildcard ../shared/data)
# Tests wait for servers and workers more than they compute, so one more of them than a small machine has cores. What they
# compute is small: in several threads each it would take longer, and all the longer beside the others.
TESTERS ?= 3

.PHONY: help setup demo serve test lint types contracts docker-check supply-chain clean .ns

help:  ## List these commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

# torch first and with torchvision: asked for apart, pip may pick two that do not fit.
# The last line is reached only by a whole install, so one that was interrupted is taken up again.
.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Found $$($(PYTHON) --version 2>&1); expected Python 3.11 or newer. Name one: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch torchvision
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

setup: .venv/.ready  ## Make .venv with everything in it

demo: .venv/.ready  ## Segment a real MRI and decode brain activity, end to end
	$(BIN)/voxelight demo $(if $(DATA),--data $(DATA))

serve: .venv/.ready  ## Open the page and the API on http://127.0.0.1:8501
	$(BIN)/voxelight serve

# Static tools do not follow the editable mapping, so they get the import name as a folder of links.
.ns: .venv/.ready
	mkdir -p .ns/voxelight
	ln -sfn ../../app/facade/__init__.py .ns/voxelight/__init__.py
	for d in app medseg models neuro storage; do ln -sfn ../../$$d .ns/voxelight/$$d; done

lint: .venv/.ready  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .ns  ## Check types
	MYPYPATH=.ns $(BIN)/mypy -p voxelight

contracts: .ns  ## Check who imports whom
	PYTHONPATH=.ns $(BIN)/lint-imports --no-cache

docker-check: .venv/.ready  ## Check images, compose file, manifests and cluster scripts without an engine
	$(BIN)/hadolint docker/*.Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml
	@if command -v docker-compose >/dev/null; then \
		POSTGRES_PASSWORD=none docker-compose --file docker/compose.yaml --profile gpu --profile s3 config --quiet; \
	else echo 'docker-compose is not installed, so its own reading of the compose file is left out'; fi
	$(BIN)/kubernetes-validate --strict --quiet --kubernetes-version 1.34 \
		$(filter-out %/autoscaling.yaml %/kustomization.yaml,$(wildcard docker/kubernetes/*.yaml))
	$(BIN)/shellcheck --external-sources docker/slurm/*

supply-chain: .venv/.ready  ## Write licences, bill of materials and known vulnerabilities into build/
	$(BIN)/python .ci/supply_chain.py licences build/licences.csv
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible --no-validate \
		--of JSON --output-file build/sbom.json $(BIN)/python
	$(BIN)/python .ci/supply_chain.py vulnerabilities build/vulnerabilities.json

test: lint types contracts docker-check  ## Lint, types, contracts, tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadfile $(PYTEST_ARGS)

clean:  ## Remove what the tools left
	rm -rf .ns .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
