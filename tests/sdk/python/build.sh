#!/bin/sh
# Builds everything.wasm, naughty.wasm and libraries.wasm with the Python SDK: `build.sh TARGET_FOLDER`. The SDK is built as for the registry, a
# wheel, and installed from it into an environment of its own below the target. They are rebuilt only if something that they are
# made of has changed.
set -eu
target=$1
mkdir -p "$target"
target=$(cd "$target" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
sdk=$here/../../../plugin-sdk/python

# The digests of everything that the SDK is made of, or that a plugin is.
of_the_sdk() {
    (cd "$sdk" && find pyproject.toml README.md LICENSE wasaba_plugin -type f -not -path '*/__pycache__/*' | LC_ALL=C sort | xargs sha256sum)
}
of_a_plugin() {
    of_the_sdk
    (cd "$here" && find build.sh "$1" -type f -not -path '*/__pycache__/*' | LC_ALL=C sort | xargs sha256sum)
}

# Not the SDK's own folder, since building a wheel leaves files behind.
installed() {
    venv=$target/venv
    [ "$(of_the_sdk)" = "$(cat "$target/sdk.ingredients" 2>/dev/null)" ] && return
    rm -rf "$venv" "$target/source" "$target/wheel"
    mkdir "$target/source"
    (cd "$sdk" && tar -cf - pyproject.toml README.md LICENSE wasaba_plugin) | tar -xf - -C "$target/source"
    python3 -m venv "$venv"
    "$venv/bin/pip" --quiet --disable-pip-version-check wheel --no-deps --wheel-dir "$target/wheel" "$target/source"
    "$venv/bin/pip" --quiet --disable-pip-version-check install "$target"/wheel/*.whl
    of_the_sdk >"$target/sdk.ingredients"
}

for plugin in everything naughty libraries; do
    if [ -f "$target/$plugin.wasm" ] && [ "$(of_a_plugin $plugin)" = "$(cat "$target/$plugin.ingredients" 2>/dev/null)" ]; then
        continue
    fi
    installed
    # Those that the plugin uses, as they are in the registry.
    [ ! -f "$here/$plugin/requirements.txt" ] ||
        "$target/venv/bin/pip" --quiet --disable-pip-version-check install --requirement "$here/$plugin/requirements.txt"
    (cd "$here/$plugin" && "$target/venv/bin/python" -m wasaba_plugin build --output "$target/$plugin.wasm")
    of_a_plugin $plugin >"$target/$plugin.ingredients"
done
