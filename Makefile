# Broking Terminal V2. `make run` and `make test` do all their own set-up on a machine with Python 3.11+ and make.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
AUDIT  := $(VENV)/audit
PIP    := $(VENV)/bin/pip --disable-pip-version-check --quiet
HOURS  ?= 1
SEED   ?= 1
N      ?= 100
MINUTES ?= 5
UNIVERSE ?= small

.PHONY: run test check lint bench sim sim-many soak soak-sim kill-loop fuzz fuzz-api audit web requirements docs setup-tests clean

run: $(VENV)/.runtime app/web/index.html
	@$(VENV)/bin/bt serve

test: $(VENV)/.dev app/web/index.html setup-tests
	@$(MAKE) --no-print-directory lint
	@$(PY) -m tests.machine vitest
	@$(PY) -m pytest tests --numprocesses 2

check: lint
	@$(PY) -m pytest tests/arch tests/unit -m "not slow"

lint: $(VENV)/.dev
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo
	@$(PY) -m bandit --quiet --configfile pyproject.toml -ll --recursive app

bench: $(VENV)/.dev app/web/index.html
	@$(PY) -m bench

# A day; with UNIVERSE=full three minutes of the real-size always-on universe.
sim: $(VENV)/.dev
	@$(PY) -m tests.sim.day --seed $(SEED) --universe $(UNIVERSE)

# Simulations of MINUTES, N seeds from SEED on, in two processes; one that fails is kept in tests/sim/regressions.txt.
# Finished seeds are in data/sim-ledger.jsonl: the same command goes on where it was stopped.
sim-many: $(VENV)/.dev
	@$(PY) -m tests.sim.many --seed $(SEED) --count $(N) --minutes $(MINUTES) --universe $(UNIVERSE)

soak: $(VENV)/.dev app/web/index.html
	@$(PY) -m bench.soak --hours $(HOURS)

# Memory over HOURS simulated hours of the service, with people who come and go; a verdict in soak/simulated.json.
soak-sim: $(VENV)/.dev
	@$(PY) -m tests.sim.soak --hours $(HOURS)

# kill -9 at N random moments on each database, every answer checked against the tables after each kill.
kill-loop: $(VENV)/.dev
	@$(PY) -m tests.durability.kill_loop --kills $(N) --database sqlite
	@$(PY) -m tests.durability.kill_loop --kills $(N) --database postgresql

web: ; rm -rf app/web && $(MAKE) --no-print-directory app/web/index.html

docs: $(VENV)/.dev
	@$(PY) -m docs.generate

# The lock files: every version pinned, every archive hashed, for every supported Python.
requirements: | $(VENV)/bin/python
	@$(PIP) install uv
	@$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make requirements" pyproject.toml -o requirements.txt
	@$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make requirements" --extra build -c requirements.txt pyproject.toml -o requirements-build.txt
	@$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make requirements" --extra build --extra dev -c requirements-build.txt pyproject.toml -o requirements-dev.txt
	@$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make requirements" --group audit -o requirements-audit.txt

$(VENV)/bin/python:
	@echo "Making $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements-build.txt pyproject.toml hatch_build.py | $(VENV)/bin/python
	@echo "Installing the pinned dependencies (about a minute, once)"
	@$(PIP) install --require-hashes -r requirements-build.txt
	@BT_WEB=skip $(PIP) install --no-deps -e .
	@$(PY) -m app.dhan.native_build
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@echo "Installing the pinned tools for tests"
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

app/web/index.html: $(shell find web -path web/node_modules -prune -o -type f -print 2>/dev/null) | $(VENV)/.runtime
	@$(PY) hatch_build.py

setup-tests: $(VENV)/.dev
	@$(PY) -m tests.machine prepare

# The native decoder under AddressSanitizer, on hostile frames.
fuzz: $(VENV)/.dev
	@$(PY) -m tests.native_fuzz

# Every operation of the API, N right and N wrong requests each, against a service of its own.
fuzz-api: $(VENV)/.dev
	@$(PY) -m tests.api_fuzz --examples $(N) --seed $(SEED)

# Known weaknesses of what the lock files name, asked of the registries; needs a network that answers such questions.
audit: $(AUDIT)/bin/pip-audit
	@$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt -r requirements-build.txt -r requirements-dev.txt
	@cd web && npm audit --audit-level=low

$(AUDIT)/bin/pip-audit: requirements-audit.txt
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/pip --disable-pip-version-check --quiet install --require-hashes -r requirements-audit.txt

clean:
	rm -rf $(VENV) app/web web/node_modules build dist
