#!/bin/sh
# Makes what a release publishes: `dist.sh TARGET OUT`. Into OUT come, for amd64 and arm64, a tarball, a .deb and an .rpm; the container
# image of both as an OCI archive; the bill of materials of each; SHA256SUMS. TARGET is Cargo's target folder. It needs neither root nor
# an engine; tests/setup.sh packages installs the tools.
#
# ARCHES="amd64" makes only that one. What is made depends on the commit alone, not on the folder or the time: see `make reproducible`.
set -eu
umask 022
mkdir -p "$1" "$2"
target=$(cd "$1" && pwd)/dist
out=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cd "$top"
version=${VERSION:-$("$here/version.sh")}
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}" "${WASABA_REVISION:=$(git rev-parse --short=7 HEAD)}"
export VERSION="$version" SOURCE_DATE_EPOCH WASABA_REVISION CARGO_TARGET_DIR="$target"
PATH=$target/../tools/bin:$PATH
arches=${ARCHES:-amd64 arm64}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
case $(uname -m) in
x86_64) own=amd64 ;;
aarch64) own=arm64 ;;
*) echo "dist.sh: releases are made on x86_64 or aarch64" >&2 && exit 1 ;;
esac
# Neither code nor messages name the folders of this machine.
RUSTFLAGS="--remap-path-prefix=$top=/wasaba --remap-path-prefix=$cargo_home=/cargo"
case $target in "$top"/*) ;; *) RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=$target=/wasaba/target/dist" ;; esac
CFLAGS="-ffile-prefix-map=$cargo_home=/cargo"
export RUSTFLAGS CFLAGS
# The linker of Rust, and Debian's cross-compiler for the few files in C and assembly. Without outlined atomics, which need its libgcc.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc
export AR_aarch64_unknown_linux_musl=aarch64-linux-gnu-ar CFLAGS_aarch64_unknown_linux_musl="-mno-outline-atomics $CFLAGS"

command -v cargo-auditable >/dev/null ||
    env -u RUSTFLAGS -u CFLAGS -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$target/../tools" cargo-auditable@0.7.7
cargo build --profile plugin --locked --target wasm32-wasip2 -p plugin-nginx -p plugin-postgres -p plugin-redis
release() { echo "$target/release-$1"; }
# Builds the programs for an architecture and its triple.
build() {
    for package in wasaba wasaba-author; do
        CARGO=$here/cargo.sh cargo-auditable auditable build --release --locked --target "$2-unknown-linux-musl" -p "$package"
    done
    to=$(release "$1")
    rm -rf "$to"
    mkdir -p "$to/plugins"
    for plugin in nginx postgres redis; do
        install -m 644 "$target/wasm32-wasip2/plugin/$plugin.wasm" "$to/plugins/"
    done
    install -m 755 "$target/$2-unknown-linux-musl/release/wasaba" "$target/$2-unknown-linux-musl/release/wasaba-author" "$to/"
    "$here/sbom.py" "$version" "$to/wasaba" "$to/wasaba-author" >"$to/sbom.cdx.json"
}
machine() { case $1 in amd64) echo x86_64 ;; arm64) echo aarch64 ;; esac; }

# The own one first: it compiles the plugins for all.
for arch in $own $arches; do
    case " $arches " in *" $arch "*) ;; *) [ "$arch" = "$own" ] || continue ;; esac
    [ "$arch" = "$own" ] && [ -n "${built:-}" ] && continue
    build "$arch" "$(machine "$arch")"
    [ "$arch" != "$own" ] || built=1
done
RUNNABLE=$(release "$own")/wasaba
export RUNNABLE

rm -f "$out"/wasaba[-_]* "$out/SHA256SUMS"
images=
for arch in $arches; do
    from=$(release "$arch")
    "$here/tarball/build.sh" "$from" "$arch" "$out"
    "$here/deb/build.sh" "$from" "$arch" "$out"
    "$here/rpm/build.sh" "$from" "$(machine "$arch")" "$out"
    "$here/image/rootfs.sh" "$from" "$target/rootfs-$arch"
    images="$images $arch=$target/rootfs-$arch"
    install -m 644 "$from/sbom.cdx.json" "$out/wasaba-$version-linux-$arch.cdx.json"
done
# shellcheck disable=SC2086 # several words
"$here/image/oci.py" "$version" "$out/wasaba-$version-image.tar" $images
(cd "$out" && LC_ALL=C sha256sum wasaba[-_]* >SHA256SUMS)
cat "$out/SHA256SUMS"
