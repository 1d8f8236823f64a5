#!/bin/sh
# The Debian package from a signed repository, in a minimal Debian: install, upgrade, remove, purge, and beside the official agent.
. "$(dirname "$0")/lib.sh"
arch=$(dpkg --print-architecture)

lintian --fail-on error "$DIST"/wasaba_*.deb || fail lintian
ok "lintian has no error"

machine
# A repository of our own, with the key that signs it.
export GNUPGHOME="$work/gnupg"
mkdir -m 700 "$GNUPGHOME"
gpg --batch --quiet --passphrase '' --quick-generate-key 'tests <tests@example.com>' ed25519 sign never 2>/dev/null
gpg --export >"$root/usr/share/keyrings/wasaba.gpg"
repository=$root/srv/wasaba
mkdir -p "$repository/conf"
printf 'Codename: stable\nComponents: main\nArchitectures: amd64 arm64\nSignWith: default\n' >"$repository/conf/distributions"
include() { reprepro --silent --basedir "$repository" includedeb stable "$@"; }
include "$DIST"/wasaba_*_amd64.deb "$DIST"/wasaba_*_arm64.deb
echo 'deb [signed-by=/usr/share/keyrings/wasaba.gpg] file:/srv/wasaba stable main' >"$root/etc/apt/sources.list"
expect "both architectures are in the repository" "$(ls "$repository/dists/stable/main" | tr '\n' ' ')" "binary-amd64 binary-arm64 "
update() { inside apt-get update -qq || fail "apt refuses the repository"; }
update
said=$(inside apt-get install -qq -y wasaba 2>&1) || fail "apt-get install: $said"
contains "without a key the message says what to type" "$said" 'wasaba init -apikey=<YOUR_API_KEY> && systemctl enable --now wasaba'
expect "the configuration is root's, and the agent's to read" "$(mode /etc/mackerel-agent/mackerel-agent.conf)" "root:wasaba 640"
expect "the state is the agent's" "$(mode /var/lib/mackerel-agent)" "wasaba:wasaba 750"
contains "it works without a key" "$(inside wasaba once 2>/dev/null)" loadavg5
contains "apt has verified it" "$(inside apt-cache policy wasaba)" "$version-1"

standin
inside wasaba init -apikey="$key" -apibase="$url" 2>/dev/null
start
await "the host is registered and its metrics arrive" posts
host=$(inside cat /var/lib/mackerel-agent/id)
expect "nothing was compiled" "$(inside ls -A /var/lib/mackerel-agent/compiled)" ""

mkdir "$work/next"
VERSION=$version.1 "$packaging/deb/build.sh" "$RELEASE" "$arch" "$work/next"
include "$work"/next/*.deb
update
inside apt-get upgrade -qq -y >/dev/null 2>&1 || fail "apt-get upgrade"
contains "the upgrade is installed while the agent runs" "$(inside dpkg-query -W wasaba)" "$version.1-1"
stop
before=$(requests 'POST /api/v0/tsdb')
start
await "the new program posts" posts "$before"
expect "the host is still the same" "$(inside cat /var/lib/mackerel-agent/id) $(requests 'POST /api/v0/hosts ')" "$host 1"
stop

inside apt-get remove -qq -y wasaba >/dev/null 2>&1 || fail "apt-get remove"
expect "remove keeps the host's id" "$(inside cat /var/lib/mackerel-agent/id)" "$host"
[ ! -e "$root/usr/bin/wasaba" ] && [ -e "$root/etc/mackerel-agent/mackerel-agent.conf" ] || fail "remove"
inside apt-get install -qq -y wasaba >/dev/null 2>&1 || fail "apt-get install, again"
expect "installed again, it is the same host" "$(inside cat /var/lib/mackerel-agent/id)" "$host"
inside apt-get purge -qq -y wasaba >/dev/null 2>&1 || fail "apt-get purge"
left=$(find "$root/etc" "$root/var/lib" "$root/usr" \( -name '*wasaba*' -o -name mackerel-agent \) -not -name 'wasaba.gpg' -not -path '*/apt/lists/*')
expect "purge leaves nothing" "$left" ""
