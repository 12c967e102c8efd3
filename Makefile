# Tidegate: everything one needs to run, test and build it. `make help` lists the targets.
#
#   make run  ARGS='--open'          flags for the program
#   make test TEST_ARGS='--test hls' flags for cargo test

SHELL := /bin/bash
.DEFAULT_GOAL := help

# A fresh rustup puts cargo where a shell that is already open does not look yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

BINARY := $${CARGO_TARGET_DIR:-target}/release/tidegate
NODE_MODULES := node_modules/.package-lock.json
PYTHON_PACKAGES := .venv/.requirements.txt

# The packages come before what needs them, whatever -j says.
.NOTPARALLEL:

.PHONY: help run test test-long build bench fuzz-smoke fmt clean ready-to-build ready-to-run ready-to-test

help: ## Lists these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ready-to-run $(NODE_MODULES) ## Installs what is missing, builds, and starts Tidegate with a live demo stream
	cargo build --release --locked
	@exec $(BINARY) --demo $(ARGS)

test: ready-to-test $(NODE_MODULES) $(PYTHON_PACKAGES) ## Checks format and lints, then runs unit, integration and browser tests
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	CHROMIUM="$$(scripts/prepare chromium)" FIREFOX="$$(scripts/prepare firefox)" cargo test --locked $(TEST_ARGS)

test-long: ready-to-test $(NODE_MODULES) $(PYTHON_PACKAGES) ## Runs the tests that take ten minutes and more
	CHROMIUM="$$(scripts/prepare chromium)" FIREFOX="$$(scripts/prepare firefox)" \
		cargo test --locked --no-fail-fast -- --ignored long_ $(TEST_ARGS)

build: ready-to-build $(NODE_MODULES) ## Builds the release binary, target/release/tidegate
	cargo build --release --locked

bench: ready-to-test $(NODE_MODULES) ## Runs the benchmarks
	cargo bench --locked $(BENCH_ARGS)

fuzz-smoke: ready-to-build $(NODE_MODULES) ## Fuzzes each parser of network input for a minute (FUZZ_SECONDS)
	scripts/fuzz

fmt: ## Formats the Rust sources
	cargo fmt

clean: ## Removes everything that was built or downloaded into this folder
	rm -rf node_modules .venv
	cargo clean

# Page assets and the clients of the browser tests, exactly as the lock file has them.
$(NODE_MODULES): package.json package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

# The tests' clients in Python, exactly as the list has them.
$(PYTHON_PACKAGES): tests/clients/requirements.txt
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@cp $< $@

ready-to-build:
	@scripts/prepare build

ready-to-run:
	@scripts/prepare run

ready-to-test:
	@scripts/prepare test
