#!/bin/sh
# Builds the test plugins in other languages, python.wasm and javascript.wasm, into the given target folder, which also keeps the
# tools. Unchanged plugins are not rebuilt.
set -eu

target=$1
here=$(cd "$(dirname "$0")" && pwd)
wit=$here/../../wit
out=$target/wasm32-wasip2/plugin
mkdir -p "$out" "$target/tools"
target=$(cd "$target" && pwd)
out=$target/wasm32-wasip2/plugin

# Whether $1 exists and is newer than all of its sources, including the contract.
fresh() {
    [ -f "$1" ] && [ -z "$(find "$wit" "$2" "$here/build.sh" -type f -newer "$1" -not -path '*/__pycache__/*')" ]
}

if ! fresh "$out/python.wasm" "$here/python"; then
    tools=$target/tools/python
    [ -x "$tools/bin/componentize-py" ] || python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --requirement "$here/python/requirements.txt"
    PYTHONDONTWRITEBYTECODE=1 "$tools/bin/componentize-py" --quiet --wit-path "$wit" --world metrics-plugin \
        componentize --python-path "$here/python" python_plugin --output "$out/python.wasm"
fi

if ! fresh "$out/javascript.wasm" "$here/javascript"; then
    tools=$target/tools/javascript
    mkdir -p "$tools"
    cp "$here/javascript/package.json" "$here/javascript/package-lock.json" "$here/javascript/.npmrc" "$tools/"
    # Not `npm ci`, which needs the bindings of every platform in the lock; three of them were never published.
    (cd "$tools" && npm install --no-save --ignore-scripts --loglevel=error --no-audit --no-fund >/dev/null)
    # Without --sync it would import async functions of the component model, which this contract does not use.
    "$tools/node_modules/.bin/componentize-qjs" --sync --opt-size --wit "$wit" --world metrics-plugin \
        --js "$here/javascript/plugin.js" --output "$out/javascript.wasm" >/dev/null
fi
