#!/bin/sh
# Runs the fuzz targets one after the other, guided by the code that an input reaches: `run.sh SECONDS ONLY TARGET_FOLDER`. All of them
# take SECONDS together. An input that breaks a target ends its turn; inputs that reach something new stay in TARGET_FOLDER/fuzz.
set -eu

cd "$(dirname "$0")"
seconds=$1 only=$2
mkdir -p "$3/fuzz"
folder=$(cd "$3/fuzz" && pwd)

# What `cargo fuzz run -s none` sets: code that counts, for libFuzzer, what an input reaches. It needs no nightly compiler. Proc macros and
# build scripts have none of it where a target is named.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
# The same versions as everywhere else.
cp ../../Cargo.lock fuzz/Cargo.lock
CARGO_TARGET_DIR=$folder/build cargo build --manifest-path fuzz/Cargo.toml --release --target "$host"
program=$folder/build/$host/release/any

targets=
for target in corpus/*; do
    case ${target#corpus/} in
    *"$only"*) targets="$targets ${target#corpus/}" ;;
    esac
done
set -- $targets
[ $# -gt 0 ] || { echo "make fuzz: no target has \`$only\` in its name; valid:" corpus/* >&2; exit 1; }
each=$((seconds / $#))
[ "$each" -gt 0 ] || each=1

failed=
for target; do
    mkdir -p "$folder/corpus/$target" "$folder/broken/$target"
    log=$folder/$target.log
    FUZZ_TARGET=$target "$program" "$folder/corpus/$target" "corpus/$target" \
        -max_total_time="$each" -max_len=16384 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$folder/broken/$target/" >"$log" 2>&1 || failed="$failed $target"
    covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$target: $each s, ${executed:-?} inputs, ${covered:-?} edges"
    [ "${failed% "$target"}" = "$failed" ] || echo "$target: BROKEN, see $log; the input is in $folder/broken/$target/"
done
[ -z "$failed" ] || { echo "make fuzz: broken:$failed" >&2; exit 1; }
