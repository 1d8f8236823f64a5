#!/bin/sh
# Keeps what a release of the contract has: `keep.sh VERSION TARGET_FOLDER`, after `make sdk`. Writes a copy of the contract to
# `released/VERSION`, and to `fossils/VERSION` the plugin `everything` of each language, its description and its cases. Once that version
# is published, they are never written again.
set -eu

version=$1
target=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
sdk=$here/../sdk
if ! grep -q "^package wasaba:plugin@$version;" "$here"/../../wit/*.wit; then
    echo "keep.sh: the contract in wit/ is not of version $version" >&2
    exit 1
fi
released=$here/released/$version
fossils=$here/fossils/$version
mkdir -p "$released" "$fossils"
cp "$here"/../../wit/*.wit "$released/"
cp "$sdk/cases.toml" "$sdk/inspect.json" "$fossils/"

# Keeps $2 as the component of the language $1.
keep() {
    xz -9 --extreme --stdout "$2" >"$fossils/$1.wasm.xz"
}
keep rust "$target/wasm32-wasip2/plugin/everything.wasm"
built=$(find "$target" -path '*/sdk/c/everything.wasm' | head -n 1)
built=${built%/c/everything.wasm}
for language in python javascript go c; do
    keep "$language" "$built/$language/everything.wasm"
done
keep cpp "$built/c/everything-cpp.wasm"
ls -l "$fossils"
