# The front door. `make` alone says what a person can do here.

VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
CHECKS := .checks/checkov/.ready .checks/ministack/.ready
DOCS_PORT ?= 8080
# pip and uv keep what they download in the user's cache folder, unless it cannot be written (a container's user may have no home).
NO_CACHE = $(shell d="$${XDG_CACHE_HOME:-$$HOME/.cache}"; mkdir -p "$$d" 2>/dev/null && test -w "$$d" || echo --no-cache-dir)

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Say what can be done here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(READY)  ## Run the whole product once: land, build, test, summarise (again: only what is new)
	@$(PYTHON) -m sandbox demo

.PHONY: test
test: $(READY) $(CHECKS)  ## Run every test
	@sh tests/install_chromium
	@# Three workers on two cores, because one mostly waits for Airflow. tests/conftest.py sets the order.
	$(PYTHON) -m pytest -n 3 --dist loadgroup --no-loadscope-reorder

.PHONY: lint
lint: $(READY)  ## Check style, SQL, YAML and that no secret is tracked
	$(VENV)/bin/pre-commit run --all-files --show-diff-on-failure

.PHONY: bench
bench: $(READY)  ## Measure speed and memory beside named alternatives
	$(PYTHON) -m benchmarks

.PHONY: docs
docs: $(READY)  ## Serve the dbt docs site on 127.0.0.1:8080 (DOCS_PORT=…: on another port; a free one where it is taken)
	$(VENV)/bin/dbt docs generate
	@$(PYTHON) -m privacy site
	@$(PYTHON) -m sandbox docs --port $(DOCS_PORT)

.PHONY: privacy
privacy: $(READY)  ## Say where personal data goes, whether any reaches refined unmasked, and how small groups are
	@$(PYTHON) -m privacy

.PHONY: up
up: $(READY)  ## Start the sandbox's servers and keep them running
	@$(PYTHON) -m sandbox up

.PHONY: airflow
airflow: $(READY)  ## Start Airflow on loopback: the five-minute DAG over the sandbox, with the application writing
	@$(PYTHON) -m sandbox airflow

.PHONY: athena
athena: $(READY)  ## Start Athena on loopback (its API over Trino, S3 and Glue) and print what to export
	@$(PYTHON) -m sandbox athena

.PHONY: redshift
redshift: $(READY)  ## Start Redshift on loopback (its driver's protocol over PostgreSQL) and print what to export
	@$(PYTHON) -m sandbox redshift

.PHONY: down
down: $(READY)  ## Stop the sandbox's servers, Athena, Redshift and Airflow
	@$(PYTHON) -m sandbox down

.PHONY: mwaa
mwaa: $(READY)  ## Put together what an MWAA environment is given: build/mwaa/
	@$(PYTHON) -m infra.mwaa.bundle

.PHONY: drawing
drawing: $(READY)  ## Render the drawing of the platform, infra/drawing/architecture.html, to docs/images
	@sh tests/install_chromium
	@$(PYTHON) -m infra.drawing

.PHONY: infra-check
infra-check: $(READY) $(CHECKS)  ## Check the templates of infra/ and the drawing, and count what was checked
	@sh tests/install_chromium
	$(PYTHON) -m pytest -q tests/infra

.PHONY: cost
cost: $(READY)  ## Say what the platform costs in a month, from measured counts and a table of prices
	@$(PYTHON) -m infra.cost

.PHONY: deploy
deploy: $(READY)  ## Make the platform of ENV=dev|prod in an AWS account; each stack's changes are shown first
	@$(PYTHON) -m infra.deploy up $(or $(ENV),$(error give ENV=dev or ENV=prod))

.PHONY: destroy
destroy: $(READY)  ## Delete the platform of ENV=dev|prod; what holds data is kept
	@$(PYTHON) -m infra.deploy down $(or $(ENV),$(error give ENV=dev or ENV=prod))

.PHONY: clean
clean:  ## Stop everything and delete what runs have made: lake, vault, sandbox, docs site, environment
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m sandbox down; fi
	rm -rf .sandbox lake vault docs-site build dbt_project/target dbt_project/logs logs .checks $(VENV)

# One environment from the lock, by the python3 at hand; uv itself comes from the package index.
# The .pth file puts the project on the path and loads its settings (loaders/environment.py).
$(READY): requirements.lock Makefile
	@python3 -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, python3 is %d.%d" % v)'
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install $(NO_CACHE) --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip sync $(NO_CACHE) --quiet --python $(PYTHON) --require-hashes requirements.lock
	@$(PYTHON) -c 'from loaders import environment; environment.install()'
	@touch $@

# What checks templates lives apart: checkov and ministack each hold boto3 to a version that the project does not have.
.checks/%/.ready: infra/checks/%.requirements.lock $(READY)
	python3 -m venv $(@D)
	$(VENV)/bin/uv pip sync $(NO_CACHE) --quiet --python $(@D)/bin/python --require-hashes $<
	@touch $@

.PHONY: lock
lock:  ## Resolve requirements.lock anew from pyproject.toml, and the locks of infra/checks
	$(VENV)/bin/uv pip compile --quiet --upgrade --universal --generate-hashes --all-extras --no-annotate --no-header \
	  pyproject.toml --output-file requirements.lock
	for tool in checkov ministack; do echo $$tool | $(VENV)/bin/uv pip compile --quiet --upgrade --universal \
	  --python-version 3.11 --generate-hashes --no-annotate --no-header - \
	  --output-file infra/checks/$$tool.requirements.lock || exit 1; done
