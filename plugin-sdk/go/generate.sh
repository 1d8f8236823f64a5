#!/bin/sh
# Generates the bindings from the contract: `generate.sh WIT_FOLDER [OUTPUT_FOLDER]`, by wit-bindgen 0.63.0 (`cargo install wit-bindgen-cli
# --version 0.63.0`; WIT_BINDGEN names another program). Without an output folder, internal/wit is replaced; its hand-written parts,
# internal/wit/exports/export_*, stay.
set -eu

wit=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
out=${2:-$here/internal/wit}
generator=${WIT_BINDGEN:-wit-bindgen}
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT

generate() {
    "$generator" go --world "$1" --pkg-name wasaba.dev/plugin/internal/wit --quiet --out-dir "$temp/$1" "$wit"
}

# Takes the support module out of this one, since it need not be on the author's machine. The bindings are for components alone.
adapt() {
    sed -e 's|"go.bytecodealliance.org/pkg/|"wasaba.dev/plugin/internal/bytecodealliance/|' -e "s|^package wit_exports\$|package ${2:-}|" \
        -e '0,/^package /s|^package |//go:build wasip1\n\n&|' "$1" | gofmt
}

generate full-plugin
for file in "$temp"/full-plugin/imports/*/wit_bindings.go; do
    folder=$out/imports/$(basename "$(dirname "$file")")
    mkdir -p "$folder"
    adapt "$file" >"$folder/wit_bindings.go"
    # A package with functions without bodies needs a file in assembler.
    printf '// Permits functions without bodies in this package.\n' >"$folder/empty.s"
done
# Each export has a package of its own, so that a plugin has only those that it imports.
for export in about metrics checks metadata; do
    generate export-$export
    mkdir -p "$out/exports/$export"
    adapt "$temp/export-$export/exports/wit_exports/wit_exports.go" $export >"$out/exports/$export/wit_exports.go"
done
