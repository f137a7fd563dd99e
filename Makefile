# `make` prints the menu. Every target sets up what it needs: .venv, made once from requirements.lock.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
SHELL := /bin/sh

# What the caller's shell has set must not leak into the environment of the project.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VENV := .venv
STAMP := $(VENV)/stamp
# The commands that measure other libraries have their own environment: no other target pays for it.
BENCH := .venv-bench
BENCH_STAMP := $(BENCH)/stamp
# So do the tests that meet a hundred client libraries. The wheel of one puts itself in the place of
# urllib3, unless it is built from source under this variable.
CLIENTS := .venv-clients
CLIENTS_STAMP := $(CLIENTS)/stamp
export URLLIB3_NO_OVERRIDE := 1
# `python -m` throughout: the scripts in .venv/bin hold absolute paths and break in a moved folder.
RUN := $(VENV)/bin/python -m
EXAMPLES := $(wildcard examples/*.py)

.PHONY: help
help: ## this menu
	@echo "usage: make <target>"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

# --- set-up ---------------------------------------------------------------------------------------

# A virtual environment knows the folder it was made in. It is made again after a move, or when its
# Python is gone.
ifneq ($(CURDIR),$(shell test -x $(VENV)/bin/python && cat $(STAMP) 2>/dev/null))
$(STAMP): FORCE
endif
ifneq ($(CURDIR),$(shell test -x $(BENCH)/bin/python && cat $(BENCH_STAMP) 2>/dev/null))
$(BENCH_STAMP): FORCE
endif
ifneq ($(CURDIR),$(shell test -x $(CLIENTS)/bin/python && cat $(CLIENTS_STAMP) 2>/dev/null))
$(CLIENTS_STAMP): FORCE
endif
FORCE: ;

$(STAMP): requirements.lock pyproject.toml scripts/set_up.py
	@$(call set-up,$(VENV) requirements.lock)

$(BENCH_STAMP): benchmarks/requirements.lock pyproject.toml scripts/set_up.py
	@$(call set-up,$(BENCH) benchmarks/requirements.lock)

$(CLIENTS_STAMP): tests/integration/clients/requirements.lock pyproject.toml scripts/set_up.py
	@$(call set-up,$(CLIENTS) tests/integration/clients/requirements.lock)

define set-up
for python in python3.11 python3 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.11.*/bin/python; do \
	    "$$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	        && exec "$$python" scripts/set_up.py $(1); \
	done; \
	echo "set-up: no Python found. It needs Python 3.11 or newer with venv, as python3.11 or python3" >&2; \
	echo "        (on Debian and Ubuntu: apt-get install python3 python3-venv)" >&2; \
	exit 1
endef

# --- the fast loop --------------------------------------------------------------------------------

.PHONY: demo
demo: $(STAMP) ## two regions on real HTTP, one of them goes down and comes back (under 30 s)
	@$(VENV)/bin/python examples/outage.py

.PHONY: test
test: $(STAMP) ## all tests that can run on this machine; the end names the servers that others wait for
	@$(RUN) pytest -q -n auto --dist loadfile

.PHONY: coverage
coverage: $(STAMP) ## all tests, each of them: 100 % of the branches, and none is skipped
	@$(RUN) pytest -q -n auto --dist loadfile --nothing-skipped \
	    --cov --cov-report=term --cov-fail-under=100

.PHONY: check
check: $(STAMP) ## ruff, mypy and pyright
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) pyright
	@echo "check: ruff, mypy and pyright found nothing"

.PHONY: examples
examples: $(STAMP) ## every example, one after the other
	@set -e; for example in $(EXAMPLES); do \
	    echo; echo "--- $$example"; \
	    case $$example in \
	        *_tests.py) $(RUN) pytest -q $$example ;; \
	        */status_page.py) $(VENV)/bin/python $$example 1 ;; \
	        *) $(VENV)/bin/python $$example ;; \
	    esac; \
	done; \
	echo; echo "examples: $(words $(EXAMPLES)) ran"

.PHONY: docs
docs: $(STAMP) ## the documentation, into docs/_build/html; a warning is an error
	@$(RUN) sphinx -q -W --keep-going -n -b html docs docs/_build/html
	@echo "docs: docs/_build/html/index.html"

# --- the slow round -------------------------------------------------------------------------------

.PHONY: ci
ci: ## all that CI runs
	@for step in check docs examples demo wheel test-extras test-lowest test-clients bench-count coverage; do \
	    echo; echo "=== make $$step"; \
	    $(MAKE) --no-print-directory $$step || exit 1; \
	done

.PHONY: test-bare
test-bare: $(STAMP) ## the demo and the tests in a clone that sees no server, as on a bare machine
	@$(VENV)/bin/python scripts/test_bare.py

.PHONY: wheel
wheel: $(STAMP) ## build the wheel, install it elsewhere and test it there
	@$(VENV)/bin/python scripts/test_wheel.py

.PHONY: test-extras
test-extras: $(STAMP) ## the wheel with each extra alone: the programs of its how-to pages run
	@$(VENV)/bin/python scripts/test_extras.py

.PHONY: test-lowest
test-lowest: $(STAMP) ## the tests with the lowest versions of the libraries that pyproject.toml allows
	@$(VENV)/bin/python scripts/test_lowest.py

.PHONY: test-clients
test-clients: $(CLIENTS_STAMP) ## real clients meet servers that are out, or refuse; in an environment of its own
	@CLIENT_TESTS=1 PYTHONDONTWRITEBYTECODE= $(CLIENTS)/bin/python -m pytest -q -n 4 tests/integration/clients

.PHONY: test-all
test-all: test ## the tests on Python 3.12, 3.13 and 3.14 too, where they are found
	@$(VENV)/bin/python scripts/test_all.py 3.12 3.13 3.14

.PHONY: mutants
mutants: $(STAMP) ## change the code on purpose and see whether a test notices (long; not in CI)
	@$(RUN) mutmut run
	@$(RUN) mutmut results

.PHONY: rabbitmq4
rabbitmq4: $(STAMP) ## RabbitMQ 4.0, in a Debian 13 that debootstrap makes (as root), until Ctrl-C
	@$(VENV)/bin/python scripts/rabbitmq4.py $(RUN) tests.support.rabbitmq_broker

.PHONY: test-rabbitmq4
test-rabbitmq4: $(STAMP) ## the tests of message workers on the same RabbitMQ 4.0
	@$(VENV)/bin/python scripts/rabbitmq4.py \
	    $(RUN) pytest -q -n auto --dist loadfile tests/integration/rabbitmq $(ARGS)

.PHONY: fuzz
fuzz: $(STAMP) ## names, reasons, errors, headers, records and requests made to harm (1 h; ARGS=minutes)
	@$(RUN) tests.model.fuzz $(ARGS)

# --- measurements -----------------------------------------------------------------------------------

.PHONY: storm
storm: $(BENCH_STAMP) ## 50 retrying tasks meet a region that is down: every breaker, into docs/storm.md
	@$(BENCH)/bin/python -m benchmarks.storm

.PHONY: bench
bench: $(BENCH_STAMP) ## what a call costs with every breaker, into docs/performance.md (1 min)
	@$(BENCH)/bin/python -m benchmarks.bench $(ARGS)

.PHONY: bench-messages
bench-messages: $(STAMP) ## messages per second next to plain aio-pika, on RabbitMQ, into message-workers.md (2 min)
	@$(RUN) benchmarks.messages $(ARGS)

.PHONY: bench-clients
bench-clients: $(STAMP) ## what a circuit breaker inside of an HTTP client adds, into http-clients.md (1 min)
	@$(RUN) benchmarks.clients $(ARGS)

.PHONY: bench-count
bench-count: $(STAMP) ## each kind of call in instructions (valgrind), against a baseline; ARGS=--write renews it
	@$(RUN) benchmarks.count $(ARGS)

.PHONY: call-depth
call-depth: $(STAMP) ## the files and functions that a call passes, into where-the-time-goes.md; ARGS=--names
	@$(RUN) benchmarks.call_depth $(ARGS)

.PHONY: tenacity-entries
tenacity-entries: $(STAMP) ## where a success through tenacity goes, into where-the-time-goes.md; ARGS=--names
	@$(RUN) benchmarks.tenacity_entries $(ARGS)

.PHONY: scoreboard
scoreboard: $(BENCH_STAMP) ## every breaker in the same situations, into docs/scoreboard.md
	@$(BENCH)/bin/python -m benchmarks.scoreboard $(ARGS)

.PHONY: bench-tenants
bench-tenants: $(STAMP) ## what the others get beside a throttled tenant, on RabbitMQ, into tenants.md (3 min)
	@$(RUN) benchmarks.neighbours $(ARGS)

.PHONY: simulate
simulate: $(STAMP) ## fleets that share their circuits, on virtual time: docs/sharing-simulation.md (5 min)
	@$(RUN) benchmarks.simulate

.PHONY: simulate-drain
simulate-drain: $(STAMP) ## a backlog and a rate limit, in eight ways, on virtual time: docs/drain-simulation.md
	@$(RUN) benchmarks.simulate_drain

.PHONY: explain
explain: $(STAMP) ## 1,000 random policies run for real, next to what explain says (long); ARGS=100: fewer
	@$(RUN) tests.support.agreement $(ARGS)

.PHONY: bench-replay
bench-replay: $(STAMP) ## how long a million recorded outcomes take to replay, printed only
	@$(RUN) benchmarks.replay

# --- the soaks: what takes minutes, and whose figures stand in the docs ------------------------------

.PHONY: soak
soak: soak-rabbitmq soak-redis ## all soaks, one after the other

.PHONY: soak-rabbitmq
soak-rabbitmq: $(STAMP) ## message workers in outages, killed, on RabbitMQ 3.10 and 4.0: docs/soak-rabbitmq.md (40 min)
	@$(RUN) tests.soak.soak_rabbitmq $(ARGS)

.PHONY: soak-redis
soak-redis: $(STAMP) ## fleets on a real store that fails, killed and cut off, into docs/soak-redis.md (30 min)
	@$(RUN) tests.soak.soak_redis $(ARGS)

# --- upkeep ---------------------------------------------------------------------------------------

.PHONY: lock
lock: $(STAMP) ## a new requirements.lock from pyproject.toml (ARGS=--upgrade for newer versions)
	@$(RUN) uv pip compile -q --universal --generate-hashes --all-extras --group dev \
	    --python-version 3.11 --custom-compile-command "make lock" pyproject.toml -o requirements.lock $(ARGS)
	@! grep -n '://' requirements.lock || { echo "lock: requirements.lock names a host" >&2; exit 1; }
	@echo "lock: $$(grep -c '^[a-z]' requirements.lock) packages in requirements.lock"

.PHONY: lock-bench
lock-bench: $(STAMP) ## a new benchmarks/requirements.lock; packages of both locks have one version
	@$(RUN) uv pip compile -q --universal --generate-hashes -c requirements.lock --python-version 3.11 \
	    --custom-compile-command "make lock-bench" benchmarks/requirements.in \
	    -o benchmarks/requirements.lock $(ARGS)
	@! grep -n '://' benchmarks/requirements.lock || { echo "lock: it names a host" >&2; exit 1; }
	@echo "lock: $$(grep -c '^[a-z]' benchmarks/requirements.lock) packages in benchmarks/requirements.lock"

.PHONY: lock-clients
lock-clients: $(STAMP) ## a new tests/integration/clients/requirements.lock, as `make lock` makes its own
	@$(RUN) uv pip compile -q --universal --generate-hashes --emit-build-options --python-version 3.11 \
	    --custom-compile-command "make lock-clients" tests/integration/clients/requirements.in \
	    -o tests/integration/clients/requirements.lock $(ARGS)
	@! grep -n '://' tests/integration/clients/requirements.lock || { echo "lock: it names a host" >&2; exit 1; }
	@echo "lock: $$(grep -c '^[a-z]' tests/integration/clients/requirements.lock) packages for the clients"

.PHONY: screenshots
screenshots: $(STAMP) ## new pictures of the status page for the docs (needs Debian's chromium)
	@$(VENV)/bin/python scripts/screenshots.py

.PHONY: policy-picture
policy-picture: $(STAMP) ## one partial outage under five policies, into docs/_static/policies.svg
	@$(RUN) docs.policy_picture

.PHONY: clean
clean: ## remove all that the other targets made, .venv included
	@rm -rf .venv .venv-* .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis \
	    .rabbitmq4 .rabbitmq4.* mutants build dist docs/_build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "clean: done"
