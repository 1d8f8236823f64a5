#!/bin/sh
# Builds the test plugins in other languages, python.wasm and javascript.wasm: `build.sh TARGET_FOLDER`. The tools are installed
# there too. A plugin is rebuilt only if its files or its tools have changed.
set -eu

target=$1
here=$(cd "$(dirname "$0")" && pwd)
wit=$here/../../wit
out=$target/wasm32-wasip2/plugin
mkdir -p "$out" "$target/tools"
target=$(cd "$target" && pwd)
out=$target/wasm32-wasip2/plugin

# Prints the digests of everything that $1.wasm is made of: its folder, which pins the versions of its tools, the contract, and this script.
ingredients() {
    (cd "$here" && find "$1" ../../wit build.sh -type f -not -path '*/__pycache__/*' | LC_ALL=C sort | xargs sha256sum)
}

# Whether $1.wasm exists and is up to date.
fresh() {
    [ -f "$out/$1.wasm" ] && [ "$(ingredients "$1")" = "$(cat "$target/tools/$1.ingredients" 2>/dev/null)" ]
}

# Records what $1.wasm was made of.
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
    # Not `npm ci`, which requires the bindings of every platform in the lock file; three of them were never published.
    (cd "$tools" && npm install --no-save --ignore-scripts --loglevel=error --no-audit --no-fund >/dev/null)
    # Without --sync it would import async functions of the component model, which the contract does not have.
    "$tools/node_modules/.bin/componentize-qjs" --sync --opt-size --wit "$wit" --world metrics-plugin \
        --js "$here/javascript/plugin.js" --output "$out/javascript.wasm" >/dev/null
    made javascript
fi
