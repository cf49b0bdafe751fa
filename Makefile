# `make demo` and `make test` install what they need; `make help` lists all targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

UV := $(shell command -v uv || echo .uv/bin/uv)
PYTHON := .venv/bin/python
export PYTHONPATH := dags
# Importing Airflow creates a folder for logs, by default in the user's home.
export AIRFLOW_HOME := $(CURDIR)/.cache/airflow
# Use the system's CA store, which has the CA of a proxy that inspects TLS.
export UV_SYSTEM_CERTS := true
# Service accounts may have no writable home.
ifneq ($(shell test -w "$${XDG_CACHE_HOME:-$$HOME}" && echo yes),yes)
export XDG_CACHE_HOME := $(CURDIR)/.cache
export GOPATH := $(CURDIR)/.cache/go
endif
# Servers of tests and the demo are on loopback: no proxy.
ifneq ($(HTTP_PROXY)$(HTTPS_PROXY)$(ALL_PROXY)$(http_proxy)$(https_proxy)$(all_proxy),)
export NO_PROXY := $(or $(NO_PROXY),$(no_proxy),localhost),localhost,127.0.0.1,::1
export no_proxy := $(NO_PROXY)
endif

.PHONY: help
help: ## List the targets
	@grep --extended-regexp '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: setup ## Run the orders DAG twice and check that rows add up; SOURCE_URL, SINK_URL, TABLES: move tables of yours
	@$(PYTHON) -m dev.demo

.PHONY: dev
dev: setup ## Run Airflow's UI with the demo's databases until Ctrl-C; SOURCE_URL, SINK_URL: with yours
	@$(PYTHON) -m dev.dev

.PHONY: test
test: setup lint ## Lint, type check, and all tests that need no cluster
	@scripts/setup-system.sh --with-curl
	@$(PYTHON) -m tests.cluster programs
	$(PYTHON) -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile tests/unit tests/manifests tests/integration
	$(PYTHON) -m pytest tests/bench

.PHONY: e2e
e2e: setup ## Test a first deployment on the cluster of KUBECONFIG, else on one made for it; TESTS="FILE …": other tests
	@if [ -z "$${KUBECONFIG:-}" ]; then tests/cluster/setup-system.sh; fi
	$(PYTHON) -m pytest --exitfirst --capture=no --timeout=3600 $(or $(TESTS),-m 'not acceptance' tests/e2e)

.PHONY: acceptance
acceptance: setup ## All tests of a deployment, before a release; writes docs/acceptance.md
	@if [ -z "$${KUBECONFIG:-}" ]; then tests/cluster/setup-system.sh; fi
	$(PYTHON) -m pytest --capture=no --timeout=3600 --figures=docs/acceptance.md tests/e2e \
		--deselect=tests/e2e/test_fault_campaign.py::test_one_fault_of_each_kind_loses_doubles_and_leaves_nothing

.PHONY: machines
machines: setup ## Test these commands on minimal Debian 12 and 13, as root and unprivileged; needs root
	@tests/cluster/setup-system.sh
	@$(PYTHON) -m tests.machines $(OPTIONS)

.PHONY: chaos
chaos: setup ## Inject 200 random faults into a deployment; OPTIONS="--seed N --faults N"
	@if [ -z "$${KUBECONFIG:-}" ]; then tests/cluster/setup-system.sh; fi
	$(PYTHON) -m pytest --exitfirst --capture=no --timeout=10800 tests/e2e/chaos_campaign.py $(OPTIONS)

.PHONY: operate
operate: setup ## Test the procedures of docs/operations.md: rotate secrets, move data, and more
	@tests/cluster/setup-system.sh
	$(PYTHON) -m pytest --capture=no --timeout=3600 tests/e2e/day_2.py

.PHONY: load
load: setup ## Run 50 pipelines every minute for half an hour; OPTIONS="--pipelines N --minutes N"
	@tests/cluster/setup-system.sh
	@$(UV) sync --quiet --frozen --inexact --group bench
	$(PYTHON) -m pytest --capture=no --timeout=10800 tests/e2e/load_campaign.py $(OPTIONS)

.PHONY: bench-cluster
bench-cluster: setup ## Measure the overhead of a run, and the resources of an idle deployment
	@tests/cluster/setup-system.sh
	$(PYTHON) -m pytest --capture=no --timeout=3600 tests/e2e/bench_orchestration.py

.PHONY: cluster
cluster: setup ## Run the tests' cluster for experiments, until Ctrl-C
	@tests/cluster/setup-system.sh
	@$(PYTHON) -m tests.cluster up

.PHONY: bench
bench: setup ## Measure the speed of rows, beside other loaders and raw limits; OPTIONS=--quick takes minutes
	-@scripts/setup-system.sh --with-odbc
	@$(UV) sync --quiet --frozen --inexact --group bench
	@$(PYTHON) -m tests.bench.speed $(OPTIONS)

.PHONY: schemas
schemas: setup ## Move whole schemas and check them, again after 1,000 changes; SCHEMAS=FOLDER: of SQL dumps that you have
	SCHEMAS="$(abspath $(SCHEMAS))" $(PYTHON) -m pytest --timeout=7200 -rN --tb=short --show-capture=no $(OPTIONS) \
		tests/integration/test_schemas.py

.PHONY: values
values: setup ## Move 500 values of every type and compare each one
	$(PYTHON) -m pytest -s -rN tests/integration/test_type_values.py

.PHONY: fill
fill: setup ## Measure a run that fills a new column of a million rows, and other runs beside it
	$(PYTHON) -m pytest -rN tests/bench/test_fill.py

.PHONY: kills
kills: setup ## Kill a replacement of a table 200 times, at random moments, while a reader asks 50 times a second; KILLS, SEED
	KILLS=$(or $(KILLS),200) $(PYTHON) -m pytest --timeout=7200 tests/integration/test_replace.py -k whenever_the_step_is_killed

.PHONY: fuzz
fuzz: setup ## Search for inputs that break tests/fuzz/claims.py; SECONDS_LONG=60, PAIRS=100000
	@$(PYTHON) -m tests.fuzz.filters $(or $(PAIRS),100000)
	@$(UV) sync --quiet --frozen --inexact --group fuzz
	PYTHONPATH=dags:airflow_image/config $(PYTHON) -m tests.fuzz -max_total_time=$(or $(SECONDS_LONG),60) $(OPTIONS)

.PHONY: docs-types
docs-types: setup ## Write docs/types.md from the tables of types
	@$(PYTHON) -m dev.types_page > docs/types.md

.PHONY: docs-recording
docs-recording: setup ## Record docs/first-tables.md: from git clone to rows in the sink
	@$(PYTHON) -m dev.recording

.PHONY: audit
audit: setup ## List the packages of the images, check licences, vulnerabilities, secrets; OSV=FOLDER: offline
	@$(PYTHON) -m dev.audit $(if $(OSV),--osv $(OSV)) $(OPTIONS)

.PHONY: dashboards
dashboards: setup ## Generate Grafana's dashboards from dev/dashboards
	@$(PYTHON) -m dev.dashboards

.PHONY: lint
lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/shellcheck $$(git ls-files '*.sh') .ci/run
	.venv/bin/hadolint $$(git ls-files '*Dockerfile')

.PHONY: setup
setup: .venv/.ready ## Install Python packages into .venv (done by other targets when needed)

.venv/.ready: pyproject.toml uv.lock etl_image/pyproject.toml airflow_image/pyproject.toml | $(UV)
	@scripts/setup-system.sh
	@echo "Installing Python packages into .venv: a minute or two the first time …"
	@$(UV) sync --quiet --frozen --compile-bytecode
	@touch $@

.uv/bin/uv:
	@source scripts/python.sh && find_python && { "$$python" -m venv .uv || \
		{ echo "Install the venv module first (Debian: apt-get install $$python-venv)." >&2; exit 1; }; }
	@.uv/bin/pip install --quiet --require-hashes --only-binary=:all: --requirement uv.txt

.PHONY: clean
clean: ## Remove everything that was installed or generated here
	rm -rf .venv .uv .cache .demo .e2e .audit .fuzz .pytest_cache .mypy_cache .ruff_cache .hypothesis
