#!/bin/sh
# Creates the file system of the image: `rootfs.sh RELEASE OUT` copies the program and the plugins from RELEASE (target/release).
# OUT/all is the file system, OUT/state the folder of the agent's state, which has a different owner. RUNNABLE is as in ../linux/stage.sh.
set -eu
# Folders that a group can write to are not trusted.
umask 022
release=$1
rm -rf "$2"
mkdir -p "$2/state"
# An empty folder would not be copied.
touch "$2/state/.keep"
out=$2/all
mkdir -p "$out/usr/bin" "$out/usr/lib/wasaba/plugins" "$out/etc/mackerel-agent/conf.d" "$out/etc/ssl/certs"
cp "$release/wasaba" "$out/usr/bin/wasaba"
cp "$release"/plugins/*.wasm "$out/usr/lib/wasaba/plugins/"

# Compiled here once, so that a container with a read-only root file system starts without compiling.
"$(dirname "$0")/../compile.sh" "${RUNNABLE:-$release/wasaba}" "$out/usr/lib/wasaba"

# Without this file, the program trusts Mozilla's certificate authorities, which are built into it.
cp /etc/ssl/certs/ca-certificates.crt "$out/etc/ssl/certs/" 2>/dev/null || true
cp "$(dirname "$0")/../../config/src/default.conf" "$out/etc/mackerel-agent/mackerel-agent.conf"
cat >"$out/etc/passwd" <<'END'
root:x:0:0:root:/:/sbin/nologin
wasaba:x:10001:10001:wasaba:/var/lib/mackerel-agent:/sbin/nologin
END
printf 'root:x:0:\nwasaba:x:10001:\n' >"$out/etc/group"
