# Everything a developer types. `make help` lists it.
SHELL := /bin/sh
.DEFAULT_GOAL := help
CARGO ?= cargo
TOOLS := target/tools
ENSURE := sh tests/tools/ensure.sh

.PHONY: help demo test chaos model fuzz check bench bench-admission fmt proto house lint-proto

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: ## Builds, starts the suite and a sample shop, and plays the story (ARGS=--once ends after it)
	$(CARGO) build --locked -p safeconduct
	$(CARGO) run --quiet --locked -p safeconduct -- demo $(ARGS)

test: ## Every test: starts or installs what it needs (Redis, buf, Python's grpcio and aiosmtpd, Envoy)
	$(ENSURE) redis buf python mail envoy clock
	. $(TOOLS)/env && $(CARGO) build --locked --workspace --all-targets
	. $(TOOLS)/env && TEST_REQUIRE_CLIENTS=1 $(CARGO) test --locked --workspace

chaos: ## Fail-overs, killed servers and killed processes under load, ROUNDS of each (10); prints what it measured
	$(ENSURE) redis clock
	. $(TOOLS)/env && $(CARGO) build --locked -p safeconduct
	. $(TOOLS)/env && TEST_CHAOS_ROUNDS=$(or $(ROUNDS),10) $(CARGO) test --locked -p safeconduct-tests --test suite -- failover:: outage:: clock::

model: ## Looks further: every order of events in a larger bound, and random histories by the million (CASES=1000000)
	CHECK_MORE=1 $(CARGO) test --profile search --locked -p safeconduct-admission-domain --lib check:: -- --nocapture
	PROPTEST_CASES=$(or $(CASES),1000000) $(CARGO) test --profile search --locked -p safeconduct-admission-domain -p safeconduct-admission

fuzz: ## Every parser of outside bytes against random and bent input, admission against its reference, CASES of each (1000000); a short run is in `make test`
	PROPTEST_CASES=$(or $(CASES),1000000) $(CARGO) test --profile search --locked -p safeconduct-identity-domain -p safeconduct-otp-domain --lib -- fuzz::
	PROPTEST_CASES=$(or $(CASES),1000000) $(CARGO) test --profile search --locked -p safeconduct-admission-domain --lib -- testing::

check: lint-proto ## Format, lints, docs, contracts and house rules; warnings fail
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	$(MAKE) house

house: ## Layering, file sizes, error pages: what the tree itself must keep
	$(CARGO) test --locked --quiet -p safeconduct-tests --test house

lint-proto: ## Lints the contracts and compares them with the last commit
	$(ENSURE) buf
	. $(TOOLS)/env && sh tests/tools/contracts.sh

bench: ## Measures calls and decisions, beside others in the same run; ratios count
	$(ENSURE) redis
	. $(TOOLS)/env && $(CARGO) build --quiet --locked --release -p safeconduct
	. $(TOOLS)/env && $(CARGO) bench --quiet --locked -p safeconduct-tests --bench suite
	$(MAKE) bench-admission

bench-admission: ## Measures decisions beside a bare service and a published rate limiter
	$(ENSURE) redis
	. $(TOOLS)/env && $(CARGO) build --quiet --locked --release -p safeconduct
	cd tests/compare && $(CARGO) build --quiet --locked --release
	. $(TOOLS)/env && TEST_SAFECONDUCT=$(CURDIR)/target/release/safeconduct tests/compare/target/release/safeconduct-compare

fmt: ## Formats everything
	$(CARGO) fmt --all
	$(ENSURE) buf
	. $(TOOLS)/env && cd proto && buf format -w safeconduct

proto: ## Compiles the contracts anew
	touch crates/proto/build.rs
	$(CARGO) build --locked -p safeconduct-proto
