#!/bin/sh
# Builds the last stage of the Dockerfile from a program that is built already: `build.sh RELEASE TAG`. It needs no base image
# and no network.
set -eu
release=$1
tag=$2
here=$(cd "$(dirname "$0")" && pwd)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
"$here/rootfs.sh" "$release" "$context/rootfs"
# The stage as it stands there, but for where it copies from.
sed -n '/^FROM scratch/,$p' "$here/../../../Dockerfile" | sed 's|--from=build ||; s|/rootfs/|rootfs/|' >"$context/Dockerfile"
docker build --quiet --tag "$tag" "$context"
