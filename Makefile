# Every target makes the environment it needs; `make` alone tells what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
SOURCES := spokes ingest workers handlers chaos tests bench
BENCHES ?= claims receiver flood workers memory budget record scenarios growth

.DEFAULT_GOAL := help
.PHONY: help demo up test test-browser test-chaos screenshots check coverage mutation audit bench fuzz chaos format lock clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## the whole main job on the simulator, checked against the truth
	@$(BIN)/python -m spokes.simulator demo $(ARGS)

up: $(STAMP) ## keep web, worker and the embedded parts running in this terminal
	@$(BIN)/python -m spokes up $(ARGS)

test: $(STAMP) ## all tests, on a real Valkey and a real PostgreSQL
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-browser: $(VENV)/browser ## the console in a real Chromium, which must be installed
	$(BIN)/python -m pytest -q tests/browser $(ARGS)

screenshots: $(VENV)/browser ## the pictures in docs/images, made with a real Chromium
	PYTHONPATH=. $(BIN)/python tests/browser/screenshots.py $(ARGS)

check: $(STAMP) ## what CI runs: format, lint, types, the import ladder, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

coverage: $(STAMP) ## which branches of the product no test takes; with those that only other processes take
	@rm -f .coverage .coverage.*
	COVERAGE_PROCESS_START=pyproject.toml $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

mutation: $(VENV)/mutation ## small faults put into the code that decides, and which no test sees; ROOMS="backoff chain" for some
	@nice $(BIN)/python bench/mutation.py $(ROOMS) $(ARGS)

audit: $(STAMP) ## known vulnerabilities of what is installed; asks a service on the net
	@$(PYTHON) -c 'import urllib.request as u; u.urlopen("https://api.osv.dev/", timeout=10)' 2>&1 | grep -q URLError && \
		{ echo "NOT CHECKED: https://api.osv.dev cannot be reached from here."; exit 2; } || true
	@[ -x $(VENV)/audit/bin/pip-audit ] || \
		{ $(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit; }
	$(VENV)/audit/bin/pip-audit --vulnerability-service osv --disable-pip --require-hashes -r requirements.txt

bench: $(STAMP) ## how fast it is, at a glance; FULL=1 for figures that hold, into docs; BENCHES="claims growth" for some
	@for name in $(BENCHES); do \
		[ -f bench/$$name.py ] || continue; \
		options=; case $$name$(FULL) in \
			receiver|flood) options="--quick" ;; \
			workers) options="--events 10000" ;; \
			memory) options="--events 150000 --wave 30000" ;; \
			record) options="--records 50000" ;; \
			scenarios) options="--changes 5000 --contacts 500 --steps 500" ;; \
			claims?*) options="--full --write" ;; \
			growth?*) options="--most 1000000 --write" ;; \
		esac; \
		echo "bench/$$name.py $$options"; \
		$(BIN)/python bench/$$name.py $$options || exit 1; \
	done

fuzz: $(STAMP) ## 100,000 hostile requests against a real web process; ARGS="--seed 7 --requests 5000"
	@$(BIN)/python bench/fuzz.py $(ARGS)

test-chaos: $(STAMP) ## the short run of chaos alone, with its known seed; `make test` has it too
	$(BIN)/python -m pytest -q tests/chaos $(ARGS)

chaos: $(STAMP) ## break everything while it works, then count; MINUTES=5 SEED=7 ARGS="--workers 4"
	@$(BIN)/python -m chaos --minutes $(or $(MINUTES),1) $(if $(SEED),--seed $(SEED)) $(ARGS)

format: $(STAMP) ## put the code in the house's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## compile pyproject.toml into the locked requirements; needs uv
	uv pip compile pyproject.toml --generate-hashes --universal --no-header --no-annotate --python-version 3.11 -o requirements.txt
	uv pip compile pyproject.toml --group dev --generate-hashes --universal --no-header --no-annotate --python-version 3.11 -c requirements.txt -o requirements-dev.txt
	uv pip compile --group browser --generate-hashes --universal --no-header --no-annotate --python-version 3.11 -c requirements-dev.txt --no-emit-package playwright --no-emit-package pyee --no-emit-package greenlet -o requirements-browser.txt
	uv pip compile --group mutation --generate-hashes --universal --no-header --no-annotate --python-version 3.11 -c requirements-dev.txt -o requirements-mutation.txt

clean: ## remove the environment and all embedded data
	rm -rf $(VENV) .spokes build *.egg-info

# Each package that is named, and not what they name: playwright is 50 MB, and only a script beside it is wanted.
$(VENV)/browser: $(STAMP) requirements-browser.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-browser.txt
	@touch $@

$(VENV)/mutation: $(STAMP) requirements-mutation.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-mutation.txt
	@touch $@

$(STAMP): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Spokes needs Python 3.11 or later; say which with: make PYTHON=python3.12"; exit 1; }
	@echo "Making the environment in $(VENV), once; this takes about a minute."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
