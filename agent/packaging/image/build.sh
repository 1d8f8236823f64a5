#!/bin/sh
# Builds the last stage of the Dockerfile from a release that is already built: `build.sh RELEASE TAG`. It needs neither a base image
# nor the network.
set -eu
release=$1
tag=$2
here=$(cd "$(dirname "$0")" && pwd)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
"$here/rootfs.sh" "$release" "$context/rootfs"
# The same stage, but it copies from the context instead of from the build stage.
sed -n '/^FROM scratch/,$p' "$here/../../../Dockerfile" | sed 's|--from=build ||; s|/rootfs/|rootfs/|' >"$context/Dockerfile"
docker build --quiet --tag "$tag" "$context"
