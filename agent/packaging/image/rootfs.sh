#!/bin/sh
# Makes what the image is copied from: `rootfs.sh RELEASE OUT` takes the program and the plugins from RELEASE, target/release.
# OUT/all is the file system, OUT/state the folder of the agent's state, which has another owner.
set -eu
release=$1
rm -rf "$2"
mkdir -p "$2/state"
# A folder without a file would not be copied.
touch "$2/state/.keep"
out=$2/all
mkdir -p "$out/usr/bin" "$out/usr/lib/wasaba/plugins" "$out/etc/mackerel-agent/conf.d" "$out/etc/ssl/certs"
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
cp "$(dirname "$0")/../../config/src/default.conf" "$out/etc/mackerel-agent/mackerel-agent.conf"
cat >"$out/etc/passwd" <<'END'
root:x:0:0:root:/:/sbin/nologin
wasaba:x:10001:10001:wasaba:/var/lib/mackerel-agent:/sbin/nologin
END
printf 'root:x:0:\nwasaba:x:10001:\n' >"$out/etc/group"
