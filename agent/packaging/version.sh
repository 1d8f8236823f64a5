#!/bin/sh
# Prints the version of the workspace, from Cargo.toml.
set -eu
sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$(dirname "$0")/../../Cargo.toml"
