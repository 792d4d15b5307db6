# Everything a newcomer needs; `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# CORDON_FULL=1 runs the tests marked slow as well.
MARKS := $(if $(CORDON_FULL),,-m 'not slow')
SOURCES := $(shell find cordon sentry gofer broker platforms native -name '*.py' -o -name '*.[chS]' -o -name '*.toml' -o -name '*.lds' -o -name flags)
PACKAGES := cordon sentry gofer broker platforms
LINTED := $(PACKAGES) native tests bench tools examples setup.py

.PHONY: help run build test lint bench bench-report bench-pytest asan dev docs clean
.DELETE_ON_ERROR:

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: build ## build, then run a program of this machine in a sandbox
	$(BIN)/cordon do -- /bin/sh -c 'uname -a; id; echo "processes:"; ps ax 2>/dev/null || true; ls /'

build: .cache/installed ## compile everything and install it into .venv

test: build .cache/test-packages ## lint, then run all tests
	$(MAKE) --no-print-directory lint
	@# The host is noisy: what failed is run once more, alone, and must pass then.
	export CORDON_COMMAND=$(CURDIR)/$(BIN)/cordon; timeout 4000 $(BIN)/python -m pytest $(MARKS) $(TESTS) || \
	{ echo "once more, what failed:"; timeout 900 $(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(MARKS) $(TESTS); }

lint: .cache/native ## ruff, mypy --strict, warnings of gcc, generated files
	$(BIN)/ruff check $(wildcard $(LINTED))
	$(BIN)/mypy
	echo native/*/*.c native/tests/*.c | xargs -n 8 gcc -fsyntax-only -std=gnu11 -D_GNU_SOURCE= -Wall -Wextra -Werror -Inative
	$(BIN)/python native/build_native.py --check
	$(BIN)/python tools/gen_abi.py --check
	$(BIN)/python tools/gen_seccomp.py --check
	$(BIN)/python tools/gen_compat.py --check

bench: build ## the table of calls and programs, natively and in sandboxes (BENCH="CASE..." others, BENCH_FLAGS=--peers)
	timeout 900 $(BIN)/cordon bench --limit 360 --html .cache/bench.html --json .cache/bench.json $(BENCH_FLAGS) $(or $(BENCH),table)

bench-report: build ## measure everything, peers too, and write it into docs/performance.md (a quiet machine, half an hour)
	$(BIN)/cordon bench --peers --limit 1200 --html .cache/bench.html --json bench/last.json $(BENCH_FLAGS) $(BENCH)
	$(BIN)/python bench/report.py bench/last.json

bench-pytest: build ## the same cases under pytest-benchmark (BENCH="-k getpid")
	CORDON_COMMAND=$(CURDIR)/$(BIN)/cordon $(BIN)/python -m pytest bench/bench_*.py -q -s -o timeout=900 --benchmark-columns=rounds $(BENCH)

asan: .cache/venv ## C unit tests with AddressSanitizer and UBSan
	$(BIN)/python tools/asan.py

dev: .cache/venv ## build the native extension in the tree, for running interpreted with tools/cordon
	$(BIN)/python native/build_native.py --allow-missing

docs: .cache/native ## write the generated pages and files again
	$(BIN)/python tools/gen_abi.py
	$(BIN)/python tools/gen_seccomp.py
	$(BIN)/python tools/gen_compat.py

clean: ## remove what was built (not .venv)
	rm -rf build dist .cache .mypy_cache .ruff_cache .pytest_cache .benchmarks native/_core.*.so *.egg-info
	find $(PACKAGES) native tests tools bench -name __pycache__ -prune -exec rm -rf {} +

.cache/packages: debian-packages.txt
	@mkdir -p .cache
	@tools/need-packages $<
	@touch $@

.cache/test-packages: tests/debian-packages.txt
	@mkdir -p .cache
	@tools/need-packages $<
	@touch $@

.cache/venv: requirements-dev.txt .cache/packages
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.cache/native: $(SOURCES) .cache/venv
	@$(BIN)/python native/build_native.py --allow-missing >/dev/null
	@touch $@

.cache/installed: $(SOURCES) pyproject.toml setup.py .cache/venv
	@echo "compiling Cordon (minutes the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall .
	@touch $@
