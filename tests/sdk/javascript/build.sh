#!/bin/sh
# Builds everything.wasm and naughty.wasm with the JavaScript SDK: `build.sh TARGET_FOLDER`. The SDK is packed as for the registry, and
# installed from the pack into an environment of its own below the target. They are rebuilt only if something that they are made of has
# changed.
set -eu
target=$1
mkdir -p "$target"
target=$(cd "$target" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
sdk=$here/../../../plugin-sdk/javascript

# The digests of everything that the SDK is made of, or that a plugin is.
of_the_sdk() {
    (cd "$sdk" && find package.json README.md LICENSE bin index.js index.d.ts lib testing.d.ts wire wit -type f | LC_ALL=C sort | xargs sha256sum)
}
of_a_plugin() {
    of_the_sdk
    (cd "$here" && find build.sh "$1" -type f | LC_ALL=C sort | xargs sha256sum)
}

installed() {
    [ "$(of_the_sdk)" = "$(cat "$target/sdk.ingredients" 2>/dev/null)" ] && return
    rm -rf "$target/node_modules" "$target"/*.tgz "$target/package.json" "$target/package-lock.json"
    (cd "$sdk" && npm pack --silent --ignore-scripts --pack-destination "$target" >/dev/null)
    printf '{ "private": true }\n' >"$target/package.json"
    # The pack is given as a file, so its dependencies are all that comes from the registry.
    (cd "$target" && npm install --no-save --ignore-scripts --loglevel=error --no-audit --no-fund ./wasaba-plugin-*.tgz >/dev/null)
    of_the_sdk >"$target/sdk.ingredients"
}

for plugin in everything naughty; do
    if [ -f "$target/$plugin.wasm" ] && [ "$(of_a_plugin $plugin)" = "$(cat "$target/$plugin.ingredients" 2>/dev/null)" ]; then
        continue
    fi
    installed
    (cd "$here/$plugin" && "$target/node_modules/.bin/wasaba-plugin" build plugin.js --output "$target/$plugin.wasm")
    of_a_plugin $plugin >"$target/$plugin.ingredients"
done
