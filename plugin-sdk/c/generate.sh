#!/bin/sh
# Generates the bindings from the contract: `generate.sh WIT_FOLDER [OUTPUT_FOLDER]`, by wit-bindgen 0.63.0 (`cargo install wit-bindgen-cli
# --version 0.63.0`; WIT_BINDGEN names another program). Without an output folder, gen is replaced.
set -eu

wit=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
out=${2:-$here/gen}
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT

"${WIT_BINDGEN:-wit-bindgen}" c --world full-plugin --no-object-file --out-dir "$temp" "$wit"
mkdir -p "$out"
cp "$temp/full_plugin.h" "$out/"
# The functions of the contract lose their export names: the macros in wasaba.h export those that a plugin has. The object file with the
# contract, which the end asks for, is not needed: the agent knows the contract.
sed -e '/__export_name__("\(cabi_post_\)\{0,1\}wasaba:plugin/d' -e '/^\/\/ Ensure that the \*_component_type/,$d' "$temp/full_plugin.c" \
    >"$out/full_plugin.c"
