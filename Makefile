# Two commands do everything on a fresh machine that has Python >= 3.11 and make:
#   make demo    install, start, and print the page to open
#   make test    install, then lint, types, contracts and every test
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PORT   ?= 8080
# Test files run beside each other; each starts its own servers on free ports.
JOBS   ?= 2

.PHONY: help demo test lint types contracts unit browser soak docs bench bench-peers clean
help: ## Show the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# With the extra that the demo page's "for you" needs.
$(VENV)/.installed: pyproject.toml requirements/run.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements/run.txt --editable ".[ranking]"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements/test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements/test.txt
	@touch $@

demo: $(VENV)/.installed ## Install, start heartcast and print the page to open
	$(BIN)/heartcast demo --port $(PORT)

test: lint types contracts unit ## Install the test tools, then run every check there is

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

contracts: $(VENV)/.installed-test
	$(BIN)/lint-imports

unit: $(VENV)/.installed-test browser
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

# The page is tested in a real Chromium. It is installed where we may install things; elsewhere
# the tests that need it are skipped and say so, and with CI set they fail.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	       && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
	  || echo "No Chromium here and no way to install it: the browser tests will be skipped."

# What CI does a few times, a hundred times; and what takes too long for it at all.
soak: $(VENV)/.installed-test ## Kill, pause and cut for an hour or two, and count what arrived
	SOAK_KILLS=$${SOAK_KILLS:-100} SOAK_RACES=$${SOAK_RACES:-100000} $(BIN)/python -m pytest --timeout 7200 \
	  -m "soak or not soak" tests/push/test_kill_9.py tests/push/test_broadcast_kill_9.py \
	  tests/push/test_webhooks_real.py tests/push/test_recall.py
	HEARTCAST_KILL_CYCLES=$${SOAK_KILLS:-100} $(BIN)/python -m pytest --timeout 7200 tests/hearts/test_sqlite_kill.py \
	  tests/hearts/test_postgres_failures.py tests/hearts/test_redis_failures.py -k kill
	SOAK_KILLS=$${SOAK_KILLS:-100} $(BIN)/python -m pytest --timeout 7200 -m soak

docs: $(VENV)/.installed ## Write the reference pages that repeat what the code says
	$(BIN)/python docs/build.py

bench: $(VENV)/.installed-test ## Measure; writes benchmarks/results/*.json
	$(BIN)/python -m benchmarks

# What comes from PyPI and npm goes into a place of its own; Debian's (nginx, libnginx-mod-nchan,
# nats-server, mosquitto) are yours to install. A peer that is not there is skipped and says so.
$(VENV)-peers/.installed: requirements/peers.txt
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@! command -v npm >/dev/null || npm install --silent --no-save --prefix $(VENV)-peers ws@8 socket.io@4
	@touch $@

bench-peers: $(VENV)/.installed-test $(VENV)-peers/.installed ## Measure heartcast beside its peers
	PEERS=$(VENV)-peers $(BIN)/python -m benchmarks peers

clean: ## Remove everything that make installed
	rm -rf $(VENV) $(VENV)-peers node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
