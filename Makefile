# Everything here sets up what it needs: a machine with python3, make and a package index is enough.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help up down sync test e2e bench images lint types fmt crds dashboards

UV = $(or $(shell cli/tools/find-uv),$(error uv is needed))
RUN = $(UV) run --no-sync
SOURCES = crds operator panel robot-agent cli helm tests
QUICKSTART = $(if $(wildcard manifests/quickstart),--apply manifests/quickstart)

help: ## Say what there is
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /make \1\t/' | expand -t 14

up: sync ## Start kuberpa on this machine with the quickstart (options: make up ARGS=--detach)
	.venv/bin/kuberpa up $(QUICKSTART) $(ARGS)

down: sync ## End what `make up` started; its state stays
	.venv/bin/kuberpa down

sync: ## Bring the virtual environment up to date
	@$(UV) sync --quiet --frozen --all-packages --all-groups

test: sync ## Run all tests (a selection: make test ARGS="tests/unit -k schedule")
	cli/tools/find-chromium
	tests/tools/find-peers
	$(RUN) python -m tests.support.build
	$(RUN) pytest $(ARGS)

e2e: sync ## Install kuberpa on a real node and try it (root on Debian; a selection: make e2e ARGS="tests/e2e -k upgrade")
	tests/tools/find-node-parts
	$(RUN) python -m tests.e2e $(ARGS)

images: ## Build the images with Docker, Podman or Buildah (REGISTRY=… TAG=… make images)
	images/build

bench: sync ## Measure everything beside its limit or peer, into docs/benchmarks.md (a part: make bench ARGS=queues)
	$(RUN) python -m tests.support.build
	$(RUN) python -m tests.benchmarks $(ARGS)

lint: sync ## Check style, formatting, types and the layers
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) lint-imports
	$(MAKE) --no-print-directory types

types: sync ## Check types alone
	$(RUN) mypy $(SOURCES)

fmt: sync ## Format, and fix what can be fixed
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

crds: sync ## Generate the CRDs from the models
	$(RUN) python -m kuberpa.generate

dashboards: sync ## Write Grafana's dashboards
	$(RUN) python -m helm.tools.dashboards

include panel/vendor.mk panel/catalogues.mk
