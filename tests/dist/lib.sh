# What the tests of packages share. Each runs as root, with DIST, the folder that `make dist` has filled; RELEASE, target/dist/release-ARCH of
# this machine; STANDIN, the program of tests/standin; and CACHE, a folder that is kept.
# shellcheck shell=sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
packaging=$here/../../agent/packaging
version=$("$packaging/version.sh")
work=$(mktemp -d)
root=$work/root
key=the-key-of-the-tests
pids=
cleanup() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    for mount in "$root/proc" "${image:-$root}/proc"; do umount --quiet --lazy "$mount" 2>/dev/null || true; done
    # Never across a mount that is still there.
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
SOURCE_DATE_EPOCH=$(git -C "$here" log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C

ok() { echo "ok: $*"; }
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
# expect WHAT FOUND EXPECTED
expect() {
    [ "$2" = "$3" ] || fail "$1: \`$2\`, expected \`$3\`"
    ok "$1"
}
contains() { case $2 in *"$3"*) ok "$1" ;; *) fail "$1: no \`$3\` in: $2" ;; esac; }
# Waits for a command to succeed, for two minutes.
await() {
    what=$1
    shift
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail "$what: not within two minutes"
        sleep 0.2
    done
    ok "$what"
}
inside() { chroot "$root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }
mode() { inside stat -c '%U:%G %a' "$1"; }

# A minimal Debian in $root, with the packages of $WITH, separated by commas.
WITH=
machine() {
    cached=$CACHE/bookworm$(echo "$WITH" | tr , -).tar
    if [ ! -e "$cached" ]; then
        mkdir -p "$CACHE"
        debootstrap --variant=minbase ${WITH:+--include="$WITH"} bookworm "$work/new" >"$work/debootstrap.log" || fail "debootstrap: $(tail -n 3 "$work/debootstrap.log")"
        tar --create --file "$cached.part" --directory "$work/new" .
        rm -rf "$work/new"
        mv "$cached.part" "$cached"
    fi
    mkdir "$root"
    tar --extract --file "$cached" --directory "$root"
    mount -t proc proc "$root/proc"
}

# The stand-in of Mackerel, whose requests are in $work/requests; its address is $url.
standin() {
    "$STANDIN" --api-key "$key" >"$work/requests" 2>&1 &
    pids="$pids $!"
    await "the stand-in of Mackerel answers" grep -q http:// "$work/requests"
    # shellcheck disable=SC2034 # used by the tests
    url=$(grep -o 'http://[0-9.:]*' "$work/requests" | head -n 1)
}
requests() { grep -c "$1" "$work/requests" || true; }

# The agent in $root, as the unit starts it; $agent is its process.
start() {
    inside install -d -o wasaba -g wasaba /run/wasaba
    chroot "$root" /usr/bin/setpriv --reuid=wasaba --regid=wasaba --init-groups --no-new-privs \
        /usr/bin/wasaba -root=/var/lib/mackerel-agent -pidfile=/run/wasaba/pid >"$work/agent.log" 2>&1 &
    agent=$!
    pids="$pids $agent"
}
stop() {
    kill "$agent"
    wait "$agent" || fail "the agent did not stop well: $(tail -n 5 "$work/agent.log")"
}
posts() { [ "$(requests 'POST /api/v0/tsdb')" -gt "${1:-0}" ]; }
