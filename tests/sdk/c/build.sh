#!/bin/sh
# Builds everything.wasm and naughty.wasm of the SDK for C, and everything-cpp.wasm, the same in C++: `build.sh TARGET_FOLDER`. The SDK is
# packed as it is published, and unpacked elsewhere. The compiler is zig, which is installed in TARGET_FOLDER/tools unless CC_FOR_WASM names
# another, such as `clang --target=wasm32-wasi`. WRAP is a program that makes a component of a core module, `WRAP CORE.wasm OUT.wasm`; without
# it, `wasaba plugin build` does, of the program WASABA. Nothing is done if nothing has changed.
set -eu

mkdir -p "$1"
target=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
sdk=$here/../../../plugin-sdk/c
tools=$target/tools

# The digests of everything that the components are made of.
ingredients() {
    echo "${CC_FOR_WASM:-}"
    (cd "$here" && find . ../../../plugin-sdk/c ../../../wit -type f -not -path '*/build/*' | LC_ALL=C sort | xargs sha256sum)
}

mkdir -p "$tools"
ingredients >"$tools/ingredients.new"
if [ -f "$target/everything.wasm" ] && [ -f "$target/everything-cpp.wasm" ] && [ -f "$target/naughty.wasm" ] && cmp -s "$tools/ingredients.new" "$tools/ingredients"; then
    exit 0
fi
if [ -z "${CC_FOR_WASM:-}" ]; then
    [ -x "$tools/zig/bin/python-zig" ] || python3 -m venv "$tools/zig"
    "$tools/zig/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    export ZIG_GLOBAL_CACHE_DIR="$tools/zig-cache" ZIG_LOCAL_CACHE_DIR="$tools/zig-cache"
    CC_FOR_WASM="$tools/zig/bin/python-zig cc -target wasm32-wasi"
fi
rm -rf "$tools/packed" "$tools/sdk" "$tools/plugins"
mkdir -p "$tools/packed" "$tools/sdk" "$tools/plugins"
make -s -C "$sdk" dist BUILD="$tools/packed"
tar -xzf "$tools"/packed/wasaba-c-*.tar.gz -C "$tools/sdk" --strip-components=1

for name in everything everything-cpp naughty; do
    cp -R "$here/$name" "$tools/plugins/$name"
    cd "$tools/plugins/$name"
    export SDK="$tools/sdk" WASM_CC="$CC_FOR_WASM"
    if [ -n "${WRAP:-}" ]; then
        make -s
        "$WRAP" build/core.wasm "$target/$name.wasm"
    else
        "${WASABA:-wasaba}" plugin build
        cp ./*.wasm "$target/$name.wasm"
    fi
done
mv "$tools/ingredients.new" "$tools/ingredients"
