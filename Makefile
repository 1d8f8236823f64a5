# Everything that a person types. `make run` and `make test` set the machine up themselves; see tests/setup.sh.

# The commit that `wasaba version` names.
export WASABA_REVISION ?= $(shell git rev-parse --short=7 HEAD 2>/dev/null || echo unknown)

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PLUGINS := nginx postgres redis
COMPONENTS := $(TARGET)/wasm32-wasip2/plugin
# The program is static, so that it runs on any Linux, and in an image without anything else.
STATIC := $(shell uname -m)-unknown-linux-musl
TAG ?= wasaba

.PHONY: build image run test bench compare lint plugins test-plugins guests clean

## build: the agent as target/release/wasaba, with the official plugins beside it
build: plugins
	$(CARGO) build --release --locked --target $(STATIC) -p wasaba
	cp $(TARGET)/$(STATIC)/release/wasaba $(TARGET)/release/wasaba

plugins:
	@tests/setup.sh rust
	$(CARGO) build --profile plugin --locked --target wasm32-wasip2 $(PLUGINS:%=-p plugin-%)
	@mkdir -p $(TARGET)/release/plugins
	cp $(PLUGINS:%=$(COMPONENTS)/%.wasm) $(TARGET)/release/plugins/

## image: the container image, from what is built here, in the Docker engine here: make image TAG=wasaba
image: build
	agent/packaging/image/build.sh $(TARGET)/release "$(TAG)"

# The plugins of the tests: one that misbehaves, one that loops, one that does everything, and one each in Python and JavaScript.
test-plugins: plugins
	@tests/setup.sh languages
	$(CARGO) build --profile plugin --locked --target wasm32-wasip2 -p naughty -p loops -p everything
	tests/plugins/build.sh $(TARGET)

## run: this machine's metrics and a live nginx's, in this terminal; MACKEREL_APIKEY=... posts them to Mackerel
run: build
	@tests/setup.sh nginx
	@tests/demo.sh $(TARGET)

## test: everything that CI checks
test: build test-plugins
	@tests/setup.sh servers
	$(MAKE) --no-print-directory lint
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps -p wasaba -p wasaba-plugin -p mackerel-standin --quiet
	$(CARGO) test --locked --workspace

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

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
