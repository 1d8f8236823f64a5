#!/bin/sh
# Installs what is missing:
#   setup.sh rust       the Rust targets of the plugins and of the static program
#   setup.sh nginx      the web server of `make run`
#   setup.sh servers    all servers and tools that the tests use
#   setup.sh languages  Python, Node.js, Go and a compiler of C for WebAssembly, for the plugins of the tests
#   setup.sh fuzz       a C++ compiler, for libFuzzer
#   setup.sh dist       what makes packages, and cross-compiles for arm64
#   setup.sh dist-test  what tries the packages
#   setup.sh deny TARGET_FOLDER  cargo-deny, for the dependencies
# Debian packages are installed only as root, or with sudo if SUDO=1 is set.
set -eu

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ "${SUDO:-}" = 1 ]; then
        sudo "$@"
    else
        echo "wasaba: missing packages: $needed. Install them (Debian: sudo apt-get install $needed)," >&2
        echo "        or let make install them with sudo: SUDO=1 make run, SUDO=1 make test" >&2
        exit 1
    fi
}

# Installs Debian packages. RUNLEVEL=1 prevents the packages from starting their servers.
install_packages() {
    needed=$*
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

case "${1:-}" in
rust)
    if ! command -v cargo >/dev/null; then
        echo "wasaba: Rust is not installed. Install it with rustup, see https://rustup.rs" >&2
        exit 1
    fi
    for target in wasm32-wasip2 "$(uname -m)-unknown-linux-musl"; do
        if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
            rustup target add "$target"
        fi
    done
    # Compiles the C dependencies of the static program.
    command -v musl-gcc >/dev/null || install_packages musl-tools
    ;;
nginx | servers)
    PATH=$PATH:/usr/sbin
    command -v nginx >/dev/null || install_packages nginx-light
    [ "$1" = servers ] || exit 0
    # PostgreSQL's programs are not on PATH; they are in /usr/lib/postgresql/VERSION/bin.
    ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || install_packages postgresql postgresql-client
    command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null ||
        install_packages redis-server redis-tools
    command -v curl >/dev/null || install_packages curl
    # Plugins with `user` run through sudo.
    command -v sudo >/dev/null || install_packages sudo
    # The tests start their own engine, with images made of the servers above and of busybox.
    command -v dockerd >/dev/null || install_packages docker.io
    command -v docker-compose >/dev/null || install_packages docker-compose
    [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || install_packages busybox-static
    # Verifies the systemd unit. systemd itself need not run here.
    command -v systemd-analyze >/dev/null || install_packages systemd
    command -v xz >/dev/null || install_packages xz-utils
    # For a disk that is frozen.
    command -v mkfs.ext4 >/dev/null && command -v fsfreeze >/dev/null || install_packages e2fsprogs mount util-linux
    # For the terminal view.
    command -v tmux >/dev/null || install_packages tmux
    # For the network namespaces of the tests' engine and name server.
    command -v ip >/dev/null && command -v unshare >/dev/null || install_packages iproute2 util-linux
    ;;
languages)
    python3 -c 'import venv, ensurepip' 2>/dev/null || install_packages python3 python3-venv
    command -v npm >/dev/null || install_packages nodejs npm
    command -v go >/dev/null || install_packages golang-go
    command -v make >/dev/null && command -v cc >/dev/null && command -v c++ >/dev/null || install_packages make gcc g++
    # Compiles C and C++ for WebAssembly.
    command -v clang++ >/dev/null && command -v wasm-ld >/dev/null && [ -d /usr/include/wasm32-wasi/c++ ] ||
        install_packages clang lld wasi-libc libclang-rt-dev-wasm32 libc++-dev-wasm32
    ;;
dist)
    for target in x86_64-unknown-linux-musl aarch64-unknown-linux-musl; do
        [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || rustup target add "$target"
    done
    command -v rpmbuild >/dev/null || install_packages rpm
    command -v aarch64-linux-gnu-gcc >/dev/null || install_packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    command -v python3 >/dev/null || install_packages python3
    ;;
dist-test)
    command -v debootstrap >/dev/null && command -v reprepro >/dev/null && command -v gpg >/dev/null ||
        install_packages debootstrap reprepro gnupg
    command -v lintian >/dev/null && command -v rpmlint >/dev/null || install_packages lintian rpmlint
    command -v systemd-nspawn >/dev/null || install_packages systemd-container
    command -v skopeo >/dev/null && command -v umoci >/dev/null || install_packages skopeo umoci
    command -v qemu-aarch64-static >/dev/null || install_packages qemu-user-static
    ;;
deny)
    # Compiles for some minutes.
    [ -x "$2/tools/bin/cargo-deny" ] || cargo install --quiet --locked --root "$2/tools" cargo-deny@0.20.2
    ;;
fuzz)
    command -v c++ >/dev/null || install_packages g++
    ;;
*)
    echo "usage: $0 rust|nginx|servers|languages|fuzz|dist|dist-test|deny" >&2
    exit 2
    ;;
esac
