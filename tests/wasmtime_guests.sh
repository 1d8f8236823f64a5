#!/bin/bash
# Runs wasmtime's own sandbox guest programs as plugins of the shipped agent: `tests/wasmtime_guests.sh WASMTIME`, where
# WASMTIME is a checkout of https://github.com/bytecodealliance/wasmtime at the release that Cargo.toml names. They are not part
# of this project, so `make test` does not run them; tests/e2e/tests/zoo.rs tests the same interfaces with a program of our own.
set -euo pipefail

checkout=$(realpath "${1:?usage: $0 WASMTIME, a checkout of github.com/bytecodealliance/wasmtime}")
project=$(cd "$(dirname "$0")/.." && pwd)
target=$(realpath "${CARGO_TARGET_DIR:-$project/target}")
wasaba=$target/release/wasaba
programs=$checkout/crates/test-programs
[ -d "$programs/src/bin" ] || { echo "$programs/src/bin is missing: $1 is not a checkout of wasmtime" >&2; exit 1; }
[ -x "$wasaba" ] || { echo "$wasaba is missing: run make build" >&2; exit 1; }

# One per line: the program, its argument or -, a limit or -, and the expected output; `ok` means that the call succeeds.
cases=$(
    cat << 'CASES'
p2_cli_no_tcp - - ok
p2_cli_no_udp - - ok
p2_cli_no_ip_name_lookup - - ok
p2_cli_default_clocks - - ok
p2_cli_sleep - - ok
p2_cli_sleep_forever - - timed out after 2 s and was stopped (limit `timeout_seconds`)
p2_cli_max_resources - - ok
p2_cli_max_resources - handles=50 limit `handles`
p2_cli_many_resources - handles=100 limit `handles`
p2_cli_hostcall_fuel poll handover_kib=1 limit `handover_kib`
p2_cli_hostcall_fuel resolve handover_kib=1 limit `handover_kib`
p2_cli_hostcall_fuel udp-send-many - access-denied
p2_cli_hostcall_fuel read-tcp-big - access-denied
p2_cli_hostcall_fuel mkdir - left: 0
p2_cli_large_env - - ok
p2_cli_exit_failure - - exit
p2_cli_exit_success - - exit
p2_cli_exit_panic - - crashed
p2_cli_stdin_empty - - ok
p2_cli_stdio_write_flushes - - ok
p2_clocks_zero_wait - - ok
p2_pollable_correct - - ok
p2_pollable_traps - - crashed
p2_stream_pollable_correct - - ok
p2_stream_pollable_traps - - crashed
p2_random - - ok
p2_api_read_only - - crashed
p2_file_truncation_readonly - - find preopen named readonly
p2_file_hardlink_across_perms - - crashed
p2_file_rename_across_perms - - crashed
p2_tcp_bind - - access-denied
p2_tcp_connect - - access-denied
p2_tcp_listen - - access-denied
p2_tcp_busy_poll - - access-denied
p2_udp_bind - - access-denied
p2_udp_connect - - access-denied
p2_udp_send_too_much - - access-denied
p2_ip_name_lookup - - permanent-resolver-failure
p2_http_outbound_request_get - - NotPresent
p2_http_outbound_request_invalid_port - - ok
p2_http_outbound_request_invalid_header - - crashed
p2_http_outbound_request_unsupported_scheme - - crashed
p2_http_outbound_request_timeout - - crashed
p2_http_outbound_request_large_post - - NotPresent
p2_tls_sample_application - - which this agent does not have
p3_cli_deny_listen - - the component model async feature
p3_cli_many_tasks - - the component model async feature
p3_cli_random_limits - - the component model async feature
p3_http_outbound_request_get - - the component model async feature
CASES
)

crate=$target/wasmtime-guests
rm -rf "$crate/programs"
mkdir -p "$crate/programs"
cat > "$crate/Cargo.toml" << MANIFEST
[package]
name = "wasmtime-guests"
version = "0.0.0"
edition = "2024"

[workspace]

[lib]
path = "lib.rs"

[dependencies]
wasaba-plugin = { path = "$project/plugin-sdk/rust" }
test-programs = { path = "$programs" }
anyhow = "1"
$(grep -E '^wasip[12] = ' "$programs/Cargo.toml")

[profile.release]
panic = "abort"
MANIFEST
: > "$crate/lib.rs"
for program in $(cut -d' ' -f1 <<< "$cases" | sort -u); do
    [ -f "$programs/src/bin/$program.rs" ] || continue
    {
        # The program as a module, without inner attributes and doc comments, and with its argument taken from a setting.
        echo '#![allow(warnings)]'
        echo 'mod program {'
        sed -E 's,^//!.*,,; s,^#!\[.*\]$,,; s,std::env::args\(\)\.nth\(1\)\.as_deref\(\),super::argument().as_deref(),' \
            "$programs/src/bin/$program.rs"
        cat << 'PLUGIN'
pub(super) fn run() { super::Ends::end(main()) }
}
use wasaba_plugin::{Error, Plugin, Sample, Setting, Settings};
wasaba_plugin::export!(describe, collect);
static ARGUMENT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
fn argument() -> Option<String> { ARGUMENT.get().cloned() }
trait Ends { fn end(self); }
impl Ends for () { fn end(self) {} }
impl<E: std::fmt::Debug> Ends for Result<(), E> { fn end(self) { self.unwrap() } }
fn describe() -> Plugin {
    Plugin::new("guest", "0.0.0", "a guest program of wasmtime").setting(Setting::text("argument").help("for the program"))
}
fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
    if let Some(argument) = settings.get("argument") { ARGUMENT.set(argument.to_owned()).unwrap(); }
    program::run();
    Ok(vec![Sample::new("guest.ok", 1.0)])
}
PLUGIN
    } > "$crate/programs/$program.rs"
    cat >> "$crate/Cargo.toml" << EXAMPLE

[[example]]
name = "$program"
path = "programs/$program.rs"
crate-type = ["cdylib"]
EXAMPLE
done
cargo build --manifest-path "$crate/Cargo.toml" --target-dir "$crate/target" --release --target wasm32-wasip2 --examples \
    --ignore-rust-version --keep-going

passed=0 failed=0 absent=0
while read -r program argument limit expected; do
    wasm=$crate/target/wasm32-wasip2/release/examples/$program.wasm
    if [ ! -f "$wasm" ]; then
        echo "absent  $program"
        absent=$((absent + 1))
        continue
    fi
    {
        printf 'root = "%s/root"\n[plugin.metrics.guest]\nwasm = "%s"\ntimeout_seconds = 2\n' "$crate" "$wasm"
        [ "$argument" = - ] || printf 'settings = { argument = "%s" }\n' "$argument"
        [ "$limit" = - ] || printf 'limits = { %s }\n' "$limit"
    } > "$crate/agent.conf"
    said=$("$wasaba" plugin run -conf "$crate/agent.conf" guest 2>&1 < /dev/null) || true
    [ "$expected" != ok ] || expected=$'guest.ok\t1.000000'
    if [[ $said == *"$expected"* ]]; then
        echo "ok      $program $argument $limit"
        passed=$((passed + 1))
    else
        printf 'FAILED  %s %s %s: expected %s, got: %s\n' "$program" "$argument" "$limit" "$expected" "${said:0:600}"
        failed=$((failed + 1))
    fi
done <<< "$cases"
echo "$passed passed, $failed failed, $absent not in this checkout"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
