#!/bin/sh
# Compiles the plugins in LIB/plugins into LIB/compiled, so that nothing is compiled at the first start, also where the file system is
# read-only: `compile.sh PROGRAM LIB`. The code is for the interpreter, so it is the same on each architecture with 64 bits.
#
# What is in COMPILED, the root of an agent, need not be compiled again.
set -eu
umask 022
program=$1
lib=$2
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
root=${COMPILED:-$own}
touch "$own/empty.conf"
"$program" plugin compile -conf "$own/empty.conf" -root "$root" "$lib"/plugins/*.wasm >/dev/null
rm -rf "$lib/compiled"
mkdir "$lib/compiled"
for plugin in "$lib"/plugins/*.wasm; do
    # The name of what was compiled begins with the digest of what it was compiled from.
    install -m 644 "$root/compiled/$(sha256sum <"$plugin" | cut -c 1-64)"-* "$lib/compiled/"
done
