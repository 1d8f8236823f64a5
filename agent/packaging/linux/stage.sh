#!/bin/sh
# Makes the tree that the packages install: `stage.sh RELEASE OUT`, from a folder with wasaba, wasaba-author and plugins/, such as
# target/release. SOURCE_DATE_EPOCH is the date of everything in it.
#
# The program of another architecture does not run here; then RUNNABLE is the same version of it that does. What it compiles and prints is
# the same: plugins are compiled for the interpreter and not for a processor.
set -eu
# Folders that a group can write to are not trusted.
umask 022
release=$1
out=$2
here=$(cd "$(dirname "$0")" && pwd)
runnable=${RUNNABLE:-$release/wasaba}
version=${VERSION:-$("$here/../version.sh")}
date=$(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y-%m-%d)

rm -rf "$out"
lib=$out/usr/lib/wasaba
share=$out/usr/share
mkdir -p "$out/usr/bin" "$lib/plugins" "$share/wasaba" "$share/doc/wasaba/examples" "$share/man/man1" \
    "$out/usr/lib/systemd/system" "$out/usr/lib/sysusers.d"
install -m 755 "$release/wasaba" "$release/wasaba-author" "$out/usr/bin/"
install -m 644 "$release"/plugins/*.wasm "$lib/plugins/"
"$here/../compile.sh" "$runnable" "$lib"
install -m 755 "$here/prepare" "$lib/prepare"
install -m 644 "$here/../../config/src/default.conf" "$share/wasaba/mackerel-agent.conf"
install -m 644 "$here/../systemd/wasaba.service" "$out/usr/lib/systemd/system/"
for file in "$here"/../systemd/drop-ins/*.conf; do
    if [ -e "$file" ]; then install -D -m 644 "$file" "$share/wasaba/systemd/$(basename "$file")"; fi
done
install -m 644 "$here/sysusers.conf" "$out/usr/lib/sysusers.d/wasaba.conf"
install -m 644 "$here/../systemd/mackerel-agent.default" "$share/doc/wasaba/examples/"
for page in "$here"/man/*.in; do
    name=$(basename "$page" .in)
    sed -e "s/@VERSION@/$version/" -e "s/@DATE@/$date/" "$page" | gzip -9n >"$share/man/man1/$name.gz"
    chmod 644 "$share/man/man1/$name.gz"
done
mkdir -p "$share/bash-completion/completions" "$share/zsh/vendor-completions" "$share/fish/vendor_completions.d"
"$runnable" completion bash >"$share/bash-completion/completions/wasaba"
"$runnable" completion zsh >"$share/zsh/vendor-completions/_wasaba"
"$runnable" completion fish >"$share/fish/vendor_completions.d/wasaba.fish"
if [ -e "$release/sbom.cdx.json" ]; then
    gzip -9nc "$release/sbom.cdx.json" >"$share/doc/wasaba/sbom.cdx.json.gz"
fi
find "$out" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
