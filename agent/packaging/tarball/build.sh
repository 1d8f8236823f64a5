#!/bin/sh
# Makes an archive that runs wherever it is unpacked: `build.sh RELEASE ARCH OUT`, ARCH being amd64 or arm64. See ../linux/stage.sh for
# RELEASE, RUNNABLE and SOURCE_DATE_EPOCH.
set -eu
umask 022
release=$1
arch=$2
out=$3
here=$(cd "$(dirname "$0")" && pwd)
version=${VERSION:-$("$here/../version.sh")}
: "${SOURCE_DATE_EPOCH:=$(git -C "$here" log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH VERSION="$version"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
"$here/../linux/stage.sh" "$release" "$tree"
name=wasaba-$version-linux-$arch
to=$work/$name
mkdir -p "$to/completions" "$to/man/man1" "$to/systemd"
# The program finds `plugins` beside it, and `compiled` beside that.
mv "$tree/usr/bin/wasaba" "$tree/usr/bin/wasaba-author" "$tree/usr/lib/wasaba/plugins" "$tree/usr/lib/wasaba/compiled" "$to/"
share=$tree/usr/share
mv "$share/bash-completion/completions/wasaba" "$to/completions/wasaba.bash"
mv "$share/zsh/vendor-completions/_wasaba" "$share/fish/vendor_completions.d/wasaba.fish" "$to/completions/"
mv "$share"/man/man1/* "$to/man/man1/"
mv "$tree/usr/lib/systemd/system/wasaba.service" "$share/doc/wasaba/examples/mackerel-agent.default" "$to/systemd/"
for file in "$share"/wasaba/systemd/*.conf; do
    if [ -e "$file" ]; then mv "$file" "$to/systemd/"; fi
done
mv "$share/wasaba/mackerel-agent.conf" "$to/"
for file in "$share"/doc/wasaba/sbom.cdx.json.gz; do
    if [ -e "$file" ]; then mv "$file" "$to/"; fi
done
install -m 644 "$here/../../../LICENSE" "$here/../../../README.md" "$here/../../../CHANGELOG.md" "$to/"
mkdir -p "$out"
tar --create --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --format=gnu "$name" |
    gzip -9n >"$out/$name.tar.gz"
