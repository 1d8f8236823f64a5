#!/bin/sh
# Builds the plugins of the tests that are written in other languages, python.wasm and javascript.wasm, into the target folder
# that is given. The tools go there too. What is made of the same files by the same tools is not built again.
set -eu

target=$1
here=$(cd "$(dirname "$0")" && pwd)
wit=$here/../../wit
out=$target/wasm32-wasip2/plugin
mkdir -p "$out" "$target/tools"
target=$(cd "$target" && pwd)
out=$target/wasm32-wasip2/plugin

# Says what $1.wasm is made of: the files of its folder, which name the versions of its tools, the contract, and this script.
ingredients() {
    (cd "$here" && find "$1" ../../wit build.sh -type f -not -path '*/__pycache__/*' | LC_ALL=C sort | xargs sha256sum)
}

# Whether $1.wasm is there and made of just this.
fresh() {
    [ -f "$out/$1.wasm" ] && [ "$(ingredients "$1")" = "$(cat "$target/tools/$1.ingredients" 2>/dev/null)" ]
}

# Notes what $1.wasm was made of.
made() {
    ingredients "$1" >"$target/tools/$1.ingredients"
}

if ! fresh python; then
    tools=$target/tools/python
    [ -x "$tools/bin/componentize-py" ] || python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/python/requirements.txt"
    PYTHONDONTWRITEBYTECODE=1 "$tools/bin/componentize-py" --quiet --wit-path "$wit" --world metrics-plugin \
        componentize --python-path "$here/python" python_plugin --output "$out/python.wasm"
    made python
fi

if ! fresh javascript; then
    tools=$target/tools/javascript
    mkdir -p "$tools"
    cp "$here/javascript/package.json" "$here/javascript/package-lock.json" "$here/javascript/.npmrc" "$tools/"
    # Not `npm ci`, which needs the bindings of every platform in the lock; three of them were never published.
    (cd "$tools" && npm install --no-save --ignore-scripts --loglevel=error --no-audit --no-fund >/dev/null)
    # Without --sync it would import async functions of the component model, which this contract does not use.
    "$tools/node_modules/.bin/componentize-qjs" --sync --opt-size --wit "$wit" --world metrics-plugin \
        --js "$here/javascript/plugin.js" --output "$out/javascript.wasm" >/dev/null
    made javascript
fi
