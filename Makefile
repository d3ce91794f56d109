# `make` alone lists what there is. Everything here also works without a terminal and in a fresh clone.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CONFIG ?= debug
ARGS ?=
BIN := .build/$(CONFIG)
FORMATTED := Package.swift Sources Tests Demo Benchmarks

# A terminal sees the progress of a build; a log gets errors only, not a line for each of a thousand steps.
QUIET := $(shell [ -t 1 ] || echo --quiet)

# Shows what passed and failed; the whole log, with what had started when a test crashed or hung, stays in
# .build/test.log.
run_tests = swift test --skip-build --disable-xctest --no-parallel $(1) 2>&1 </dev/null | tee .build/test.log \
  | { grep --line-buffered -v '^◇' || true; }

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22
	@echo '  variables: CONFIG=debug|release, ARGS="…" for bench and test-powercut, KEEP=1 for demo'

.PHONY: deps
deps: ## install the Debian packages that are missing, check the Swift version
	@scripts/deps

.PHONY: build
build: deps ## build everything (CONFIG=release for an optimised build)
	swift build $(QUIET) -c $(CONFIG)

.PHONY: test
test: deps lint ## the whole test suite: format, house rules, Swift tests, independent check of the vectors
	swift build $(QUIET) --build-tests
	@$(call run_tests,)
	@if [ -f Tests/verify_vectors.py ]; then \
	  echo python3 Tests/verify_vectors.py; python3 Tests/verify_vectors.py </dev/null; fi

.PHONY: check
check: deps lint ## format and house rules only
	swift build $(QUIET) --build-tests
	@$(call run_tests,--filter HouseTests)

.PHONY: lint
lint: ## refuse what `make fmt` would change
	swift format lint --strict --parallel --recursive $(FORMATTED)

.PHONY: fmt
fmt: ## format the Swift sources in place
	swift format --in-place --parallel --recursive $(FORMATTED)

.PHONY: demo
demo: deps ## two organisations on loopback exchange real files (KEEP=1 leaves them running)
	swift build $(QUIET) -c $(CONFIG) --product engram-node
	swift build $(QUIET) -c $(CONFIG) --product engram
	swift build $(QUIET) -c $(CONFIG) --product engram-demo
	@$(BIN)/engram-demo $(if $(filter 1,$(KEEP)),--keep)

.PHONY: bench
bench: deps ## measure throughput and latency of an optimised build (ARGS="--help" lists the runs)
	swift build $(QUIET) -c release --product engram-node
	swift build $(QUIET) -c release --product engram-bench
	@.build/release/engram-bench $(ARGS)

.PHONY: bench-peers
bench-peers: ## measure RabbitMQ on this machine for comparison; installs Debian packages
	@Benchmarks/peers/run --install $(ARGS) .build/peers.jsonl

.PHONY: test-powercut
test-powercut: deps ## cut the power of a node's file system under load; needs root and loop devices
	scripts/powercut $(ARGS)

.PHONY: docs
docs: deps ## render the documentation of the public modules into .build/docs
	scripts/docs

.PHONY: clean
clean: ## remove what was built, and what the demo left
	rm -rf .build demo-data
