#!/bin/sh
# Cargo as cargo-auditable is to start it, which it does by the variable CARGO. It passes itself on as the wrapper of the compiler for the
# workspace, whose path Cargo makes part of each crate's identity: the same sources in another folder would become another program. As the
# wrapper for all crates it does the same, and its path counts for nothing.
set -eu
RUSTC_WRAPPER=${RUSTC_WORKSPACE_WRAPPER:-}
export RUSTC_WRAPPER
unset RUSTC_WORKSPACE_WRAPPER CARGO
exec cargo "$@"
