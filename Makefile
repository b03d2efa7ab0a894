# Every target creates the environment it needs; `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
SOURCES := spokes ingest workers handlers chaos tests bench
BENCHES ?= claims receiver flood workers end_to_end memory rate_budget audit_store scenarios growth recovery

.DEFAULT_GOAL := help
.PHONY: help demo up test test-slow test-browser test-chaos check-pgbouncer check-monitoring screenshots wheel reference check coverage mutation audit bench fuzz chaos format lock clean

help: ## list the targets
	@echo "Start here:"
	@awk -F ':.*## ' '/^(demo|up|test|check):.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "More:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / && !/^(demo|up|test|check|help):/ { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## a day of events on a simulated HubSpot, every result checked
	@$(BIN)/python -m spokes.simulator demo $(ARGS)

up: $(STAMP) ## run web, worker, Valkey and SQLite in this terminal
	@$(BIN)/python -m spokes up $(ARGS)

test: $(STAMP) ## the tests, on a real Valkey and a real PostgreSQL
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not slow" $(ARGS)

test-slow: $(STAMP) ## the suites that take longer: chaos and whole processes
	$(BIN)/python -m pytest -n 3 --dist loadfile -m slow $(ARGS)

test-browser: $(VENV)/browser ## the console in a real Chromium, which must be installed
	$(BIN)/python -m pytest -q tests/browser $(ARGS)

check-pgbouncer: $(STAMP) ## the audit store behind pgbouncer, which must be installed: apt-get install pgbouncer
	$(BIN)/python -m pytest -q tests/pooler $(ARGS)

check-monitoring: ## the alert rules, evaluated by promtool, which must be installed: apt-get install prometheus
	@command -v promtool >/dev/null || { echo "promtool is missing. Install it: apt-get install prometheus"; exit 2; }
	promtool check rules docs/monitoring/alerts.yaml
	promtool test rules docs/monitoring/alerts_test.yaml

screenshots: $(VENV)/browser ## redraw docs/images with a real Chromium
	PYTHONPATH=. $(BIN)/python tests/browser/screenshots.py $(ARGS)

wheel: $(STAMP) ## build the distribution spokes-hubspot in dist/
	@rm -rf build dist
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build
	@ls dist/*.whl

reference: $(STAMP) ## rewrite docs/reference.md from the docstrings of the public modules
	$(BIN)/python -m tests.project.reference_page

check: $(STAMP) ## what CI runs: format, lint, types, import contracts, all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test
	$(MAKE) test-slow

coverage: $(STAMP) ## branches that no test takes, in this and in child processes
	@rm -f .coverage .coverage.*
	COVERAGE_PROCESS_START=pyproject.toml $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

mutation: $(VENV)/mutation ## mutants of the modules that make decisions; MODULES="resolution chain" for some
	@nice $(BIN)/python bench/mutation.py $(or $(MODULES),$(ROOMS)) $(ARGS)

audit: $(STAMP) ## known vulnerabilities of the dependencies; asks a service on the internet
	@$(PYTHON) -c 'import urllib.request as u; u.urlopen("https://api.osv.dev/", timeout=10)' 2>&1 | grep -q URLError && \
		{ echo "NOT CHECKED: https://api.osv.dev cannot be reached from here."; exit 2; } || true
	@[ -x $(VENV)/audit/bin/pip-audit ] || \
		{ $(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit; }
	$(VENV)/audit/bin/pip-audit --vulnerability-service osv --disable-pip --require-hashes -r requirements.txt

bench: $(STAMP) ## benchmarks at a glance; FULL=1 for reliable figures, written to docs; BENCHES="claims growth" for some
	@for name in $(BENCHES); do \
		[ -f bench/$$name.py ] || continue; \
		options=; case $$name$(FULL) in \
			receiver|flood) options="--quick" ;; \
			workers) options="--events 10000" ;; \
			end_to_end) options="--seconds 10 --repeats 1 --no-bursts" ;; \
			memory) options="--events 150000 --wave 30000" ;; \
			audit_store) options="--records 50000" ;; \
			scenarios) options="--changes 5000 --contacts 500 --steps 500" ;; \
			claims?*) options="--full --write" ;; end_to_end?*) options="--write" ;; \
			growth?*) options="--most 1000000 --write" ;; recovery?*) options="--full --write" ;; \
		esac; \
		echo "bench/$$name.py $$options"; \
		$(BIN)/python bench/$$name.py $$options || exit 1; \
	done

fuzz: $(STAMP) ## 100,000 hostile requests to the receiver, 20,000 to console and API; ARGS="--seed 7 --requests 5000"
	@$(BIN)/python bench/fuzz.py $(ARGS)
	@$(BIN)/python bench/fuzz_console.py $(ARGS)

test-chaos: $(STAMP) ## the short chaos run with a known seed
	$(BIN)/python -m pytest -q tests/chaos $(ARGS)

chaos: $(STAMP) ## break every part under load, then check the invariants; MINUTES=5 SEED=7 ARGS="--workers 4"
	@$(BIN)/python -m chaos --minutes $(or $(MINUTES),1) $(if $(SEED),--seed $(SEED)) $(ARGS)

format: $(STAMP) ## format the code and apply safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## compile pyproject.toml into the locked requirements; needs uv
	uv pip compile pyproject.toml --generate-hashes --universal --no-header --no-annotate --python-version 3.11 -o requirements.txt
	uv pip compile pyproject.toml --group dev --generate-hashes --universal --no-header --no-annotate --python-version 3.11 -c requirements.txt -o requirements-dev.txt
	uv pip compile --group browser --generate-hashes --universal --no-header --no-annotate --python-version 3.11 -c requirements-dev.txt --no-emit-package playwright --no-emit-package pyee --no-emit-package greenlet -o requirements-browser.txt
	uv pip compile --group mutation --generate-hashes --universal --no-header --no-annotate --python-version 3.11 -c requirements-dev.txt -o requirements-mutation.txt

clean: ## remove the environment and all embedded data
	rm -rf $(VENV) .spokes build dist *.egg-info

# Without their dependencies: playwright alone is 50 MB, and only a script beside it is used.
$(VENV)/browser: $(STAMP) requirements-browser.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-browser.txt
	@touch $@

$(VENV)/mutation: $(STAMP) requirements-mutation.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-mutation.txt
	@touch $@

$(STAMP): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Spokes needs Python 3.11 or later. Name one: make PYTHON=python3.12"; exit 1; }
	@echo "Creating the environment in $(VENV); this takes about a minute, once."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
