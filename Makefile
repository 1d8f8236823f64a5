# The commands for developers. `make run` and `make test` install what is missing; see tests/setup.sh.

# The commit that `wasaba version` prints.
export WASABA_REVISION ?= $(shell git rev-parse --short=7 HEAD 2>/dev/null || echo unknown)

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PLUGINS := nginx postgres redis
TEST_PLUGINS := naughty loops everything leaky doors
COMPONENTS := $(TARGET)/wasm32-wasip2/plugin
# The program is static, so that it runs on any Linux and in an otherwise empty image.
STATIC := $(shell uname -m)-unknown-linux-musl
TAG ?= wasaba

# The tests use the whole workspace, in a profile that links quickly, for the target of the shipped program. Since cargo resolves
# features by the packages it is asked for, always building the whole workspace compiles the dependencies only once.
# `make test PROFILE=release` tests the shipped program itself.
PROFILE ?= ci
TESTED := $(TARGET)/$(STATIC)/$(PROFILE)
# Rust's own linker takes a third of the time of the system's. Nothing that is shipped is linked with it.
ifeq ($(PROFILE),ci)
LLD := $(wildcard $(shell rustc --print sysroot 2>/dev/null)/lib/rustlib/$(shell uname -m)-unknown-linux-gnu/bin/gcc-ld)
LLD_FLAGS := ["-Clink-arg=-B$(LLD)", "-Clink-arg=-fuse-ld=lld"]
LINKED := $(if $(LLD),--config 'target.$(STATIC).rustflags = $(LLD_FLAGS)')
endif
WORKSPACE := --locked --workspace --profile $(PROFILE) --target $(STATIC) $(LINKED)
# A constant instead of the commit, so that nothing is rebuilt only because of a new commit.
ifeq ($(PROFILE),ci)
tested clippy docs doctests unit compiled e2e suite sdk: export WASABA_REVISION := tests
endif
# libtest reports durations only with this variable. It is set for the test programs alone, so it affects no compilation. Those of derives run
# on the compiler's own target.
RUNNER := runner = ["env", "RUSTC_BOOTSTRAP=1"]
TIMED := --config 'target.$(STATIC).$(RUNNER)' --config 'target.$(shell uname -m)-unknown-linux-gnu.$(RUNNER)'
TIMES := -Z unstable-options --report-time

.PHONY: build image run test setup format clippy lint checks docs tested compiled doctests suite unit e2e sdk fuzz matrix bench zoo compare plugins test-plugins guests dist dist-test reproducible deny clean

## build: build the agent, target/release/wasaba, and next to it the official plugins and wasaba-author, the tools for authors of plugins
build: plugins
	$(CARGO) build --release --locked --target $(STATIC) -p wasaba
	$(CARGO) build --release --locked --target $(STATIC) -p wasaba-author
	install -m 755 $(TARGET)/$(STATIC)/release/wasaba $(TARGET)/$(STATIC)/release/wasaba-author $(TARGET)/release/

plugins:
	@tests/setup.sh rust
	$(CARGO) build --profile plugin --locked --target wasm32-wasip2 $(PLUGINS:%=-p plugin-%)
	@mkdir -p $(TARGET)/release/plugins
	install -m 644 $(PLUGINS:%=$(COMPONENTS)/%.wasm) $(TARGET)/release/plugins/

## image: build the container image in the local Docker engine: make image TAG=wasaba
image: build
	agent/packaging/image/build.sh $(TARGET)/release "$(TAG)"

# The plugins for tests: one that misbehaves, one that loops, one that uses the whole contract, and one each in Python and JavaScript.
test-plugins: plugins
	@tests/setup.sh languages
	$(CARGO) build --profile plugin --locked --target wasm32-wasip2 $(TEST_PLUGINS:%=-p %)
	tests/plugins/build.sh $(TARGET)

## run: show the metrics of this machine and of an nginx in the terminal; MACKEREL_APIKEY=... posts them to Mackerel
run: build
	@tests/setup.sh nginx
	@tests/demo.sh $(TARGET)

## test: run everything that CI checks, and print the duration of each stage and of the slowest tests
test:
	@tests/stages.sh $(TARGET) $(MAKE) setup format test-plugins tested compiled+unit e2e+checks

setup:
	@tests/setup.sh rust
	@tests/setup.sh languages
	@tests/setup.sh servers

format:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy $(WORKSPACE) --all-targets -- -D warnings

## lint: run the quick checks of `make test`, format and clippy, and hold the dependencies against deny.toml
lint: format clippy deny

# Licences, sources and duplicates need the crates alone, advisories a database from the network.
deny:
	@tests/setup.sh deny $(abspath $(TARGET))
	PATH=$(abspath $(TARGET))/tools/bin:$$PATH tests/deny.sh

checks: clippy docs doctests suite

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(WORKSPACE) --no-deps --quiet

# Builds the program, the official plugins next to it, and the tests of the program; with one command, since the tests' dependencies add
# features to those of the program.
tested: plugins
	$(CARGO) build $(WORKSPACE) --bins --test '*'
	@mkdir -p $(TESTED)/plugins
	install -m 644 $(PLUGINS:%=$(COMPONENTS)/%.wasm) $(TESTED)/plugins/

# Precompiles the components that most tests use: the agent compiles at the lowest priority, which is slow on a busy machine.
# Unchanged components are not compiled again.
compiled: tested test-plugins
	@mkdir -p $(TESTED)/compiled && : >$(TESTED)/compiled/agent.conf
	@echo "compiling components"
	nice -n -10 $(TESTED)/wasaba plugin compile -conf $(TESTED)/compiled/agent.conf -root $(TESTED)/compiled $(PLUGINS) \
		$(foreach name,naughty everything leaky python javascript,$(abspath $(COMPONENTS)/$(name).wasm))

doctests:
	$(CARGO) test $(WORKSPACE) --doc --quiet

# Beside the tests of the program, which leave a core unused: they wait for minutes.
suite:
	$(CARGO) test $(WORKSPACE) $(TIMED) --no-fail-fast --test sdk -- $(TIMES) --ignored $(ONLY)

## sdk: run the suite of the SDKs, tests/sdk, in each language; make sdk ONLY=go runs one
sdk: tested test-plugins
	@$(MAKE) --no-print-directory suite

## unit: run the unit tests, without servers
unit:
	$(CARGO) test $(WORKSPACE) $(TIMED) --no-fail-fast --lib --bins -- $(TIMES)

## e2e: run the tests of the program against real servers; make e2e ONLY=docker runs those whose name contains `docker`
e2e: compiled
	$(CARGO) test $(WORKSPACE) $(TIMED) --no-fail-fast --test '*' -- $(TIMES) $(ONLY)

## matrix: let each endpoint of Mackerel misbehave in each way for a simulated hour; `make unit` runs half of it: make matrix ONLY=504
matrix:
	ALL=1 ONLY="$(ONLY)" $(CARGO) test $(WORKSPACE) --lib no_misbehaviour_of_any_endpoint -- --nocapture

## fuzz: run the fuzz targets, guided by what their inputs reach: make fuzz SECONDS=3600 in all, ONLY=redis those with it in their names
fuzz: SECONDS := 3600
fuzz:
	@tests/setup.sh rust
	@tests/setup.sh fuzz
	tests/fuzz/run.sh "$(SECONDS)" "$(ONLY)" "$(abspath $(TARGET))"

## bench: measure the agent's resource usage against its goals; make bench ONLY=calls measures a part, see tests/e2e/src/bin/bench; with
## OFFICIAL_PLUGINS=a folder, also the official plugins in it; with BEFORE=a target folder of another release, a call beside its
bench: build test-plugins
	@tests/setup.sh servers
	$(CARGO) run --release --locked -p wasaba-e2e --bin bench -- $(ONLY)

## zoo: run all misbehaving plugins in one agent, and judge what the others notice of it: make zoo MINUTES=10
zoo: build test-plugins
	$(CARGO) run --release --locked -p wasaba-e2e --bin zoo -- $(or $(MINUTES),10)

## compare: compare our plugins with the official ones on the same live servers: make compare OFFICIAL=a folder with mackerel-plugin-*
compare: build
	@test -n "$(OFFICIAL)" || { echo "make compare: OFFICIAL is missing: set it to a folder with mackerel-plugin-nginx, -postgres and -redis" >&2; exit 1; }
	@tests/setup.sh servers
	$(CARGO) run --release --locked -p wasaba-e2e --bin compare -- "$(OFFICIAL)"

## guests: run wasmtime's own sandbox test programs as plugins: make guests WASMTIME=a checkout of wasmtime
guests: build
	tests/wasmtime_guests.sh "$(WASMTIME)"

## dist: make what a release publishes into dist/, for amd64 and arm64: archives, .deb, .rpm, the image, bills of materials, SHA256SUMS
dist:
	@tests/setup.sh rust
	@tests/setup.sh dist
	nice agent/packaging/dist.sh $(TARGET) dist

## dist-test: install what `make dist` has left, as root: from a signed repository in a minimal Debian, with rpm, for arm64, as an image
dist-test: export DIST := $(abspath dist)
dist-test: export RELEASE := $(abspath $(TARGET)/dist/release-$(if $(filter aarch64,$(shell uname -m)),arm64,amd64))
dist-test: export STANDIN := $(abspath $(TESTED)/mackerel-standin)
dist-test: export CACHE := $(abspath $(TARGET)/dist)
dist-test: tested
	@tests/setup.sh servers
	@tests/setup.sh dist-test
	set -e; for test in $(or $(ONLY),apt systemd rpm image arm64 first_minute); do echo "$$test:"; tests/dist/$$test.sh; done

## reproducible: make everything twice, in two clones of this commit, and compare: it takes as long as two builds
reproducible:
	@tests/setup.sh rust
	@tests/setup.sh dist
	nice tests/dist/reproducible.sh

clean:
	$(CARGO) clean
