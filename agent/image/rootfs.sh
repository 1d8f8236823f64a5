#!/bin/sh
# Makes the file system of the image: `rootfs.sh RELEASE OUT` takes the program and the plugins from RELEASE, target/release.
set -eu
release=$1
out=$2
rm -rf "$out"
mkdir -p "$out/usr/bin" "$out/usr/lib/wasaba/plugins" "$out/etc/mackerel-agent/conf.d" "$out/etc/ssl/certs" \
    "$out/var/lib/mackerel-agent"
cp "$release/wasaba" "$out/usr/bin/wasaba"
cp "$release"/plugins/*.wasm "$out/usr/lib/wasaba/plugins/"

# Compiled once here, so that a container with a root file system that is read-only starts at once.
compiled=$(mktemp -d)
trap 'rm -rf "$compiled"' EXIT
touch "$compiled/empty.conf"
"$out/usr/bin/wasaba" plugin compile -conf "$compiled/empty.conf" -root "$compiled" nginx postgres redis >/dev/null
mv "$compiled/compiled" "$out/usr/lib/wasaba/compiled"
chmod 755 "$out/usr/lib/wasaba/compiled"
chmod 644 "$out"/usr/lib/wasaba/compiled/*

# Without this file the program believes the authorities that Mozilla ships, which are in it.
cp /etc/ssl/certs/ca-certificates.crt "$out/etc/ssl/certs/" 2>/dev/null || true
cp "$(dirname "$0")/../src/config/default.conf" "$out/etc/mackerel-agent/mackerel-agent.conf"
echo 'wasaba:x:10001:10001:wasaba:/var/lib/mackerel-agent:/sbin/nologin' >"$out/etc/passwd"
echo 'wasaba:x:10001:' >"$out/etc/group"
# The folder of the agent's state is copied by itself; a folder without a file would not be.
touch "$out/var/lib/mackerel-agent/.keep"
