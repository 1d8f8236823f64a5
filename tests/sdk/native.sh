#!/bin/sh
# Runs the native tests of the SDK for a language: `native.sh LANGUAGE TARGET_FOLDER`, where the folder is the one that build.sh of that language
# has filled.
set -eu

language=$1
target=$(cd "$2" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$target/native/plugin-sdk/$language
rm -rf "$target/native"
mkdir -p "$work"
# Not in the SDK's own folder, since tests leave files behind; they look for the suite and the contract beside it.
(cd "$root/plugin-sdk/$language" && tar -cf - --exclude=node_modules --exclude=build .) | tar -xf - -C "$work"
ln -s "$root/tests" "$root/wit" "$target/native/"
cd "$work"

case "$language" in
c)
    make -s test
    ;;
go)
    GOFLAGS=-mod=mod GOTOOLCHAIN=local go vet ./...
    GOFLAGS=-mod=mod GOTOOLCHAIN=local go test ./...
    ;;
javascript)
    ln -s "$target/node_modules" node_modules
    node --test tests/
    ;;
python)
    "$target/venv/bin/pip" --quiet --disable-pip-version-check install pytest==9.2.0
    PYTHONDONTWRITEBYTECODE=1 "$target/venv/bin/python" -m pytest -q -p no:cacheprovider
    ;;
*)
    echo "native.sh: no native tests of $language" >&2
    exit 1
    ;;
esac
