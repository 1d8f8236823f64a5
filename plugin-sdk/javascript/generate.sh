#!/bin/sh
# Copies the contract into the package. There is nothing else to generate ahead: componentize-qjs makes the bindings of each plugin's
# own world when it is built. With `--check` it only tells whether the copy is up to date.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1-}" = --check ]; then
    diff -r "$here/../../wit" "$here/wit"
    exit
fi
rm -rf "$here/wit"
mkdir "$here/wit"
cp "$here"/../../wit/*.wit "$here/wit/"
