#!/bin/sh
# Builds everything.wasm, naughty.wasm and libraries.wasm of the SDK for Go: `build.sh TARGET_FOLDER`. The SDK is packed as a module
# proxy has it, and downloaded from there into a fresh module cache. WRAP is a program that makes a component of a core module,
# `WRAP CORE.wasm OUT.wasm`; without it, `wasaba plugin build` does, of the program WASABA. Nothing is done if nothing has changed.
set -eu

mkdir -p "$1"
target=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
sdk=$here/../../../plugin-sdk/go
tools=$target/tools

# The digests of everything that the components are made of.
ingredients() {
    go version
    (cd "$here" && find . ../../../plugin-sdk/go ../../../wit -type f | LC_ALL=C sort | xargs sha256sum)
}

mkdir -p "$tools"
ingredients >"$tools/ingredients.new"
if [ -f "$target/everything.wasm" ] && [ -f "$target/naughty.wasm" ] && [ -f "$target/libraries.wasm" ] && cmp -s "$tools/ingredients.new" "$tools/ingredients"; then
    exit 0
fi
rm -rf "$tools/proxy" "$tools/plugins"
for old in "$tools"/modules*; do
    [ ! -d "$old" ] || chmod -R u+w "$old"
    rm -rf "$old"
done
mkdir -p "$tools/plugins"

# Of each version its own path: Go remembers what the files of a module cache import.
modules=$tools/modules-$(sha256sum <"$tools/ingredients.new" | cut -c 1-16)
registry=$(go env GOPROXY)
export GOWORK=off GOFLAGS=-mod=mod GOTOOLCHAIN=local
(cd "$here/pack" && go run . "$sdk" "$tools/proxy")
# The packed module alone: no other proxy, no checksum database, no module that is there already.
export GOPROXY="file://$tools/proxy" GONOSUMDB=wasaba.dev GONOSUMCHECK=1 GOMODCACHE="$modules"

for name in everything naughty libraries; do
    # Those that the plugin uses, as they are in the registry.
    [ ! -f "$here/$name/go.sum" ] || export GOPROXY="file://$tools/proxy,$registry"
    cp -R "$here/$name" "$tools/plugins/$name"
    cd "$tools/plugins/$name"
    go mod edit -dropreplace wasaba.dev/plugin
    if [ -n "${WRAP:-}" ]; then
        GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags='-checklinkname=0 -s -w' -trimpath -o build/core.wasm .
        "$WRAP" build/core.wasm "$target/$name.wasm"
    else
        "${WASABA:-wasaba}" plugin build
        cp "$name.wasm" "$target/$name.wasm"
    fi
done
mv "$tools/ingredients.new" "$tools/ingredients"
