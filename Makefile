# `make demo` and `make test` set up whatever they need; `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

UV := $(shell command -v uv || echo .uv/bin/uv)
PYTHON := .venv/bin/python
export PYTHONPATH := dags
# Whatever imports Airflow makes a folder for its logs; without this in the user's home.
export AIRFLOW_HOME := $(CURDIR)/.cache/airflow
# Networks that inspect TLS put their authority into the system's store.
export UV_SYSTEM_CERTS := true
# Service accounts often have no home of their own, or one that they may not write to.
ifneq ($(shell test -w "$${XDG_CACHE_HOME:-$$HOME}" && echo yes),yes)
export XDG_CACHE_HOME := $(CURDIR)/.cache
export GOPATH := $(CURDIR)/.cache/go
endif
# What tests and the demo start answers on loopback, where no proxy leads.
ifneq ($(HTTP_PROXY)$(HTTPS_PROXY)$(ALL_PROXY)$(http_proxy)$(https_proxy)$(all_proxy),)
export NO_PROXY := $(or $(NO_PROXY),$(no_proxy),localhost),localhost,127.0.0.1,::1
export no_proxy := $(NO_PROXY)
endif

.PHONY: help
help: ## List the targets
	@grep --extended-regexp '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: setup ## Run the orders DAG twice, with changes in between, and show that it adds up
	@$(PYTHON) -m dev.demo

.PHONY: dev
dev: setup ## Keep Airflow's UI up on the same parts, to trigger and retry by hand
	@$(PYTHON) -m dev.dev

.PHONY: test
test: setup lint ## Lint, types, and every test that needs no cluster
	@scripts/setup-system.sh --with-curl
	@$(PYTHON) -m tests.cluster programs
	$(PYTHON) -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile tests/unit tests/manifests tests/integration
	$(PYTHON) -m pytest tests/bench

.PHONY: e2e
e2e: setup ## A user's first day on a real cluster: that of KUBECONFIG, else one of its own; TESTS="FILE …" takes others
	@if [ -z "$${KUBECONFIG:-}" ]; then tests/cluster/setup-system.sh; fi
	$(PYTHON) -m pytest --exitfirst --capture=no --timeout=3600 $(or $(TESTS),-m 'not acceptance' tests/e2e)

.PHONY: acceptance
acceptance: setup ## All tests of such a deployment, before a release; writes docs/acceptance.md
	@if [ -z "$${KUBECONFIG:-}" ]; then tests/cluster/setup-system.sh; fi
	$(PYTHON) -m pytest --capture=no --timeout=3600 --figures=docs/acceptance.md tests/e2e \
		--deselect=tests/e2e/test_fault_campaign.py::test_one_fault_of_each_kind_loses_doubles_and_leaves_nothing

.PHONY: machines
machines: setup ## Try these commands on minimal Debian 12 and 13, as root and as a user without rights; takes root
	@tests/cluster/setup-system.sh
	@$(PYTHON) -m tests.machines $(OPTIONS)

.PHONY: chaos
chaos: setup ## Hit such a deployment with 200 faults at random; OPTIONS="--seed N" repeats, "--faults N" shortens
	@if [ -z "$${KUBECONFIG:-}" ]; then tests/cluster/setup-system.sh; fi
	$(PYTHON) -m pytest --exitfirst --capture=no --timeout=10800 tests/e2e/chaos_campaign.py $(OPTIONS)

.PHONY: operate
operate: setup ## Do there what docs/operations.md says of day 2: rotate every secret, move the data, and more
	@tests/cluster/setup-system.sh
	$(PYTHON) -m pytest --capture=no --timeout=3600 tests/e2e/day_2.py

.PHONY: load
load: setup ## Run 50 pipelines with a schedule of a minute there for half an hour; OPTIONS="--pipelines N --minutes N"
	@tests/cluster/setup-system.sh
	@$(UV) sync --quiet --frozen --inexact --group bench
	$(PYTHON) -m pytest --capture=no --timeout=10800 tests/e2e/load_campaign.py $(OPTIONS)

.PHONY: bench-cluster
bench-cluster: setup ## Measure there what a run costs beyond its work, and what an idle deployment takes
	@tests/cluster/setup-system.sh
	$(PYTHON) -m pytest --capture=no --timeout=3600 tests/e2e/bench_orchestration.py

.PHONY: cluster
cluster: setup ## Keep such a cluster up for experiments, until Ctrl-C
	@tests/cluster/setup-system.sh
	@$(PYTHON) -m tests.cluster up

.PHONY: bench
bench: setup ## Measure how fast rows move, beside peers and raw limits; OPTIONS=--quick takes minutes
	-@scripts/setup-system.sh --with-odbc
	@$(UV) sync --quiet --frozen --inexact --group bench
	@$(PYTHON) -m tests.bench.speed $(OPTIONS)

.PHONY: fuzz
fuzz: setup ## Look for inputs that break a claim of tests/fuzz/claims.py; SECONDS_LONG=60, PAIRS=100000
	@$(PYTHON) -m tests.fuzz.filters $(or $(PAIRS),100000)
	@$(UV) sync --quiet --frozen --inexact --group fuzz
	PYTHONPATH=dags:airflow_image/config $(PYTHON) -m tests.fuzz -max_total_time=$(or $(SECONDS_LONG),60) $(OPTIONS)

.PHONY: audit
audit: setup ## List what the images bring, check licences, vulnerabilities, secrets; OSV=FOLDER: without a network
	@$(PYTHON) -m dev.audit $(if $(OSV),--osv $(OSV)) $(OPTIONS)

.PHONY: dashboards
dashboards: setup ## Write Grafana's dashboards anew from dev/dashboards
	@$(PYTHON) -m dev.dashboards

.PHONY: lint
lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/shellcheck $$(git ls-files '*.sh') .ci/run
	.venv/bin/hadolint $$(git ls-files '*Dockerfile')

.PHONY: setup
setup: .venv/.ready ## Install Python packages into .venv (done by the others when needed)

.venv/.ready: pyproject.toml uv.lock etl_image/pyproject.toml airflow_image/pyproject.toml | $(UV)
	@scripts/setup-system.sh
	$(UV) sync --frozen --compile-bytecode
	@touch $@

.uv/bin/uv:
	@source scripts/python.sh && find_python && { "$$python" -m venv .uv || \
		{ echo "Install the venv module first (Debian: apt-get install $$python-venv)." >&2; exit 1; }; }
	@.uv/bin/pip install --quiet --require-hashes --only-binary=:all: --requirement uv.txt

.PHONY: clean
clean: ## Remove everything that was installed or made here
	rm -rf .venv .uv .cache .demo .e2e .audit .fuzz .pytest_cache .mypy_cache .ruff_cache .hypothesis
