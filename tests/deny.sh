#!/bin/sh
# Holds the dependencies against deny.toml. Where the database of advisories cannot be fetched, only they are skipped, with a message;
# ADVISORIES=required makes that a failure, as for a release.
set -eu
cd "$(dirname "$0")/.."
cargo-deny --locked check bans licenses sources
if said=$(cargo-deny --locked fetch db 2>&1); then
    cargo-deny --locked --offline check advisories
elif [ "${ADVISORIES:-}" = required ]; then
    echo "$said" >&2
    exit 1
else
    echo "make deny: advisories were not checked: their database cannot be fetched" >&2
fi
