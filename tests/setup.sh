#!/bin/sh
# Installs what is missing: `setup.sh rust` the target that plugins are built for, `setup.sh nginx` a web server for the
# tests and the demonstration. Debian packages are only installed by root, or with sudo when SUDO=1 says so.
set -eu

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ "${SUDO:-}" = 1 ]; then
        sudo "$@"
    else
        echo "wasaba: this needs nginx. Install it (Debian: sudo apt-get install nginx-light)," >&2
        echo "        or let make do it with sudo: SUDO=1 make run, SUDO=1 make test" >&2
        exit 1
    fi
}

case "${1:-}" in
rust)
    if ! command -v cargo >/dev/null; then
        echo "wasaba: there is no Rust. Install it with rustup, see https://rustup.rs" >&2
        exit 1
    fi
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/wasm32-wasip2" ]; then
        rustup target add wasm32-wasip2
    fi
    ;;
nginx)
    PATH=$PATH:/usr/sbin
    if ! command -v nginx >/dev/null; then
        # RUNLEVEL=1 keeps the package from starting a server of its own.
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -qq -y --no-install-recommends nginx-light >/dev/null
    fi
    ;;
*)
    echo "usage: $0 rust|nginx" >&2
    exit 2
    ;;
esac
