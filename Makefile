# Everything runs in .venv, which these targets make and keep up to date by themselves.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
CARGO_MANIFEST := native/Cargo.toml
NATIVE_SOURCES := $(shell find native -name '*.rs' -not -path '*/target/*') $(wildcard native/*/Cargo.toml) native/Cargo.toml native/Cargo.lock

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## from nothing to answered requests over simulated model servers, with a chart of where they went
	@$(BIN)/inferway demo

run: $(VENV)/.ready ## the gateway of the demo, left running, with a curl line to try
	@$(BIN)/inferway demo --keep

test: $(VENV)/.ready ## all tests: Rust, Python units, properties, golden files, real Envoy (no GPU, no cluster)
	cargo test --quiet --locked --manifest-path $(CARGO_MANIFEST)
	$(BIN)/python -m pytest -q -n 4 --dist loadfile

check: $(VENV)/.ready ## formatting, lint, types, layers, clippy, tidiness
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	cargo fmt --check --manifest-path $(CARGO_MANIFEST) --all
	cargo clippy --quiet --locked --manifest-path $(CARGO_MANIFEST) --all-targets -- -D warnings
	$(BIN)/python -m pytest -q tests/tidy

bench: $(VENV)/.ready ## overhead against plain Envoy and peers, decision and apply time (about 20 minutes; needs wrk and nginx)
	$(BIN)/python -m bench.overhead
	$(BIN)/python -m bench.decision
	$(BIN)/python -m bench.apply

golden: $(VENV)/.ready ## rewrite the golden files from what the code does now; read the diff before you commit it
	INFERWAY_GOLDEN=refresh $(BIN)/python -m pytest -q tests/golden tests/unit

docs: $(VENV)/.ready ## rewrite the generated parts of docs/*.md
	$(BIN)/python docs/generate.py

fmt: $(VENV)/.ready ## format Python and Rust
	$(BIN)/ruff format . && $(BIN)/ruff check --fix-only --quiet .
	cargo fmt --manifest-path $(CARGO_MANIFEST) --all

lock: $(VENV)/.deps ## resolve pyproject.toml into requirements.lock again
	$(BIN)/uv pip compile -q pyproject.toml --group dev --generate-hashes --python-version 3.11 --universal --no-annotate \
	  --custom-compile-command "make lock" --upgrade -o requirements.lock

wheel: $(VENV)/.ready ## build the wheel, both native parts in it, into dist/
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation -w dist .

wheel-check: $(VENV)/.ready ## the wheel, in an empty environment without Rust, serves a request
	$(BIN)/python tests/packaging/wheel_check.py

setup: $(VENV)/.ready ## only make .venv and the native parts

clean: ## remove everything that was built
	rm -rf $(VENV) build dist native/target src/*.egg-info src/inferway/*.so src/inferway/envoy/*.so

$(VENV)/.deps: requirements.lock
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "inferway needs Python 3.11 or newer (found: $(PYTHON)); set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check "uv>=0.5,<1"
	$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.ready: $(VENV)/.deps pyproject.toml $(NATIVE_SOURCES)
	@command -v cargo >/dev/null || { echo "inferway's native parts need Rust (1.85 or newer): https://rustup.rs" >&2; exit 1; }
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: help demo run test check bench golden docs fmt lock wheel wheel-check setup clean
