#!/bin/sh
# Makes a package for Debian and Ubuntu: `build.sh RELEASE ARCH OUT`, ARCH being amd64 or arm64. It needs dpkg-deb alone, and neither root
# nor the network. See ../linux/stage.sh for RELEASE, RUNNABLE and SOURCE_DATE_EPOCH. COMPRESSION=none saves tests the time.
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
tree=$work/tree
"$here/../linux/stage.sh" "$release" "$tree"
doc=$tree/usr/share/doc/wasaba
install -m 644 "$here/copyright" "$doc/copyright"
gzip -9nc "$here/../../../CHANGELOG.md" >"$doc/changelog.gz"
{
    printf 'wasaba (%s-1) stable; urgency=medium\n\n' "$version"
    printf '  * Version %s; changelog.gz says what has changed.\n\n' "$version"
    printf ' -- %s  %s\n' "$maintainer" "$(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$doc/changelog.Debian.gz"
mkdir -p "$tree/usr/share/lintian/overrides" "$tree/DEBIAN"
install -m 644 "$here/lintian-overrides" "$tree/usr/share/lintian/overrides/wasaba"
size=$(du -k --apparent-size -s "$tree" | cut -f1)
sed -e "s/@DEB_VERSION@/$version-1/" -e "s/@ARCH@/$arch/" -e "s/@MAINTAINER@/$maintainer/" -e "s|@HOMEPAGE@|$homepage|" \
    -e "s/@SIZE@/$size/" "$here/control.in" >"$tree/DEBIAN/control"
install -m 755 "$here/postinst" "$here/prerm" "$here/postrm" "$tree/DEBIAN/"
(cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
mkdir -p "$out"
dpkg-deb --root-owner-group -Z"${COMPRESSION:-xz}" --build "$tree" "$out/wasaba_$version-1_$arch.deb" >/dev/null
