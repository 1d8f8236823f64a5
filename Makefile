# Everything that a person types. `make run` and `make test` set the machine up themselves; see tests/setup.sh.

# The commit that `wasaba version` names.
export WASABA_REVISION ?= $(shell git rev-parse --short=7 HEAD 2>/dev/null || echo unknown)

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PLUGINS := nginx postgres redis
TEST_PLUGINS := naughty loops everything
COMPONENTS := $(TARGET)/wasm32-wasip2/plugin
# The program is static, so that it runs on any Linux, and in an image without anything else.
STATIC := $(shell uname -m)-unknown-linux-musl
TAG ?= wasaba

# What is tested: the workspace in a profile that is quick to link, for the same target as the program that is shipped, so that what
# everything depends on is compiled once. It is always the whole workspace, since cargo chooses features by what is asked for.
# `make test PROFILE=release` tests the shipped program itself.
PROFILE ?= ci
TESTED := $(TARGET)/$(STATIC)/$(PROFILE)
WORKSPACE := --locked --workspace --profile $(PROFILE) --target $(STATIC)
# Not the commit's name, with which everything that holds it would be built again after each commit.
ifeq ($(PROFILE),ci)
tested clippy docs doctests unit compiled e2e: export WASABA_REVISION := tests
endif
# libtest tells how long a test took only where this variable is set. No compiler sees it: it is set for the tests alone.
TIMED := --config 'target.$(STATIC).runner = ["env", "RUSTC_BOOTSTRAP=1"]'
TIMES := -Z unstable-options --report-time

.PHONY: build image run test setup format clippy lint checks docs tested compiled doctests unit e2e bench compare plugins test-plugins guests clean

## build: the agent as target/release/wasaba, with the official plugins beside it
build: plugins
	$(CARGO) build --release --locked --target $(STATIC) -p wasaba
	install -m 755 $(TARGET)/$(STATIC)/release/wasaba $(TARGET)/release/wasaba

plugins:
	@tests/setup.sh rust
	$(CARGO) build --profile plugin --locked --target wasm32-wasip2 $(PLUGINS:%=-p plugin-%)
	@mkdir -p $(TARGET)/release/plugins
	install -m 644 $(PLUGINS:%=$(COMPONENTS)/%.wasm) $(TARGET)/release/plugins/

## image: the container image, from what is built here, in the Docker engine here: make image TAG=wasaba
image: build
	agent/image/build.sh $(TARGET)/release "$(TAG)"

# The plugins of the tests: one that misbehaves, one that loops, one that does everything, and one each in Python and JavaScript.
test-plugins: plugins
	@tests/setup.sh languages
	$(CARGO) build --profile plugin --locked --target wasm32-wasip2 $(TEST_PLUGINS:%=-p %)
	tests/plugins/build.sh $(TARGET)

## run: this machine's metrics and a live nginx's, in this terminal; MACKEREL_APIKEY=... posts them to Mackerel
run: build
	@tests/setup.sh nginx
	@tests/demo.sh $(TARGET)

## test: everything that CI checks, with what each stage and the slowest tests took
test:
	@tests/stages.sh $(TARGET) $(MAKE) setup format test-plugins tested compiled doctests unit e2e+checks

setup:
	@tests/setup.sh rust
	@tests/setup.sh languages
	@tests/setup.sh servers

format:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy $(WORKSPACE) --all-targets -- -D warnings

## lint: the quick half of `make test`
lint: format clippy

checks: clippy docs

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(WORKSPACE) --no-deps --quiet

# The program, with the official plugins beside it, and all tests; in one go, since what tests depend on adds features to what the program
# depends on.
tested: plugins
	$(CARGO) build $(WORKSPACE) --bins --tests
	@mkdir -p $(TESTED)/plugins
	install -m 644 $(PLUGINS:%=$(COMPONENTS)/%.wasm) $(TESTED)/plugins/

# The components that most tests use, compiled once for all of them: the agent compiles with the least priority, which on a busy
# machine takes long. What has not changed is not compiled again.
compiled: tested test-plugins
	@mkdir -p $(TESTED)/compiled && : >$(TESTED)/compiled/agent.conf
	nice -n -10 $(TESTED)/wasaba plugin compile -conf $(TESTED)/compiled/agent.conf -root $(TESTED)/compiled $(PLUGINS) \
		$(foreach name,naughty everything python javascript,$(abspath $(COMPONENTS)/$(name).wasm))

doctests:
	$(CARGO) test $(WORKSPACE) --doc --quiet

## unit: the tests of the code alone, without servers
unit:
	$(CARGO) test $(WORKSPACE) $(TIMED) --lib --bins -- $(TIMES)

## e2e: the tests of the program against real servers; make e2e ONLY=docker for those whose names hold a word
e2e: compiled
	$(CARGO) test $(WORKSPACE) $(TIMED) --test '*' -- $(TIMES) $(ONLY)

## bench: what the agent costs, each figure beside its goal; with OFFICIAL_PLUGINS=a folder, beside the official programs in it
bench: build test-plugins
	@tests/setup.sh servers
	$(CARGO) run --release --locked -p wasaba-e2e --bin bench

## compare: our plugins beside the official programs on the same live servers: make compare OFFICIAL=a folder with mackerel-plugin-*
compare: build
	@test -n "$(OFFICIAL)" || { echo "make compare: say where the official programs are: OFFICIAL=a folder with mackerel-plugin-nginx, -postgres and -redis" >&2; exit 1; }
	@tests/setup.sh servers
	$(CARGO) run --release --locked -p wasaba-e2e --bin compare -- "$(OFFICIAL)"

## guests: wasmtime's own sandbox guest programs as plugins: make guests WASMTIME=a checkout of it
guests: build
	tests/wasmtime_guests.sh "$(WASMTIME)"

clean:
	$(CARGO) clean
