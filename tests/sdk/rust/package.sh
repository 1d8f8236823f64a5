#!/bin/sh
# Packages the SDK for Rust as for the registry, and builds and tests the plugin of its template with what is in the packages:
# `package.sh TARGET_FOLDER`.
set -eu
mkdir -p "$1"
target=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../../.." && pwd)
cargo=${CARGO:-cargo}

export CARGO_TARGET_DIR="$target/packages"
(cd "$root" && "$cargo" package --quiet --allow-dirty --no-verify -p wasaba-plugin -p wasaba-plugin-derive)

unpacked=$target/unpacked
rm -rf "$unpacked" && mkdir "$unpacked"
for package in "$CARGO_TARGET_DIR"/package/wasaba-plugin*.crate; do
    tar -xf "$package" -C "$unpacked"
done
of() {
    found=$(find "$unpacked" -maxdepth 1 -name "$1-[0-9]*")
    [ -d "$found" ] || { echo "package.sh: no package of $1 in $unpacked" >&2; exit 1; }
    echo "$found"
}
sdk=$(of wasaba-plugin)
derive=$(of wasaba-plugin-derive)

plugin=$unpacked/queue
template=$root/plugin-sdk/rust/template
mkdir -p "$plugin/src"
filled() {
    sed -e 's/{name}/queue/g' "$template/$1"
}
filled src/lib.rs.in >"$plugin/src/lib.rs"
# As an author has it who takes the SDK from the registry.
filled Cargo.toml.in | sed -e 's/^wasaba-plugin = .*/wasaba-plugin = "0.1"/' >"$plugin/Cargo.toml"
cat >>"$plugin/Cargo.toml" <<PATCH

[patch.crates-io]
wasaba-plugin = { path = "$sdk" }
wasaba-plugin-derive = { path = "$derive" }
PATCH

export CARGO_TARGET_DIR="$target/built"
(cd "$plugin" && "$cargo" test --quiet && "$cargo" build --quiet --target wasm32-wasip2)
echo "the plugin of the template is built and passes with $(basename "$sdk") and $(basename "$derive")"
