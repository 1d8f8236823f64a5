#!/bin/sh
# Makes a package for Fedora, RHEL and their kin: `build.sh RELEASE ARCH OUT`, ARCH being x86_64 or aarch64. It needs rpmbuild alone, which
# Debian has, too, and neither root nor the network. See ../linux/stage.sh for RELEASE, RUNNABLE and SOURCE_DATE_EPOCH.
set -eu
umask 022
release=$1
arch=$2
out=$3
here=$(cd "$(dirname "$0")" && pwd)
version=${VERSION:-$("$here/../version.sh")}
maintainer=${MAINTAINER:-wasaba maintainers <maintainers@wasaba.example>}
homepage=${HOMEPAGE:-https://mackerel.io/}
: "${SOURCE_DATE_EPOCH:=$(git -C "$here" log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH VERSION="$version"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
WASABA_TREE=$work/tree
export WASABA_TREE
"$here/../linux/stage.sh" "$release" "$WASABA_TREE"
share=$WASABA_TREE/usr/share
mkdir -p "$share/licenses/wasaba" "$share/zsh/site-functions"
mv "$share/zsh/vendor-completions/_wasaba" "$share/zsh/site-functions/"
rmdir "$share/zsh/vendor-completions"
install -m 644 "$here/../../../LICENSE" "$share/licenses/wasaba/"
install -m 644 "$here/../../../CHANGELOG.md" "$share/doc/wasaba/"
date=$(LC_ALL=C date --utc --date="@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')
sed -e "s/@VERSION@/$version/" -e "s/@MAINTAINER@/$maintainer/" -e "s|@HOMEPAGE@|$homepage|" -e "s/@RPM_DATE@/$date/" \
    "$here/wasaba.spec.in" >"$work/wasaba.spec"
rpmbuild -bb --quiet --target "$arch-linux" --define "_topdir $work/rpmbuild" --define "_rpmdir $work/rpms" \
    --define "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" "$work/wasaba.spec"
mkdir -p "$out"
cp "$work"/rpms/*.rpm "$out/"
