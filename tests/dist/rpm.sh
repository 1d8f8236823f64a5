#!/bin/sh
# The package for rpm, in a minimal system with rpm's own database: install, upgrade, erase, and beside the official agent.
. "$(dirname "$0")/lib.sh"
arch=$(uname -m)

rpmlint --config "$packaging/rpm/rpmlint.toml" "$DIST"/wasaba-*.rpm || fail rpmlint
ok "rpmlint has no error"

machine
conf=/etc/mackerel-agent/mackerel-agent.conf
# What Fedora provides is there, and not in rpm's database.
there() { rpm --root "$root" --nodeps "$@" 2>&1; }
first=$DIST/wasaba-$version-1.$arch.rpm
said=$(there -i "$first") || fail "rpm -i: $said"
contains "without a key the message says what to type" "$said" 'wasaba init -apikey=<YOUR_API_KEY> && systemctl enable --now wasaba'
expect "the configuration is root's, and the agent's to read" "$(mode $conf)" "root:wasaba 640"
expect "the state is the agent's" "$(mode /var/lib/mackerel-agent)" "wasaba:wasaba 750"
said=$(there -V wasaba) || fail "rpm -V: $said"
ok "rpm verifies what it has installed"
contains "it works without a key" "$(inside wasaba once 2>/dev/null)" loadavg5

standin
inside wasaba init -apikey="$key" -apibase="$url" 2>/dev/null
start
await "the host is registered and its metrics arrive" posts
host=$(inside cat /var/lib/mackerel-agent/id)
expect "nothing was compiled" "$(inside ls -A /var/lib/mackerel-agent/compiled)" ""

mkdir "$work/next"
VERSION=$version.1 "$packaging/rpm/build.sh" "$RELEASE" "$arch" "$work/next"
said=$(there -U "$work"/next/*.rpm) || fail "rpm -U: $said"
expect "the upgrade is installed while the agent runs" "$(rpm --root "$root" -q wasaba)" "wasaba-$version.1-1.$arch"
stop
before=$(requests 'POST /api/v0/tsdb')
start
await "the new program posts" posts "$before"
expect "the host is still the same" "$(inside cat /var/lib/mackerel-agent/id) $(requests 'POST /api/v0/hosts ')" "$host 1"
stop
said=$(there -e wasaba) || fail "rpm -e: $said"
expect "erasing keeps the host's id" "$(inside cat /var/lib/mackerel-agent/id)" "$host"
[ ! -e "$root/usr/bin/wasaba" ] && [ ! -e "$root/usr/lib/wasaba" ] && [ -e "$root$conf" ] || fail "rpm -e left the program, or took the configuration"
rm -r "$root/etc/mackerel-agent" "$root/var/lib/mackerel-agent"

# The official package owns the configuration.
cat >"$work/official.spec" <<'END'
Name: mackerel-agent
Version: 0.87.0
Release: 1
Summary: Stands in for the official package
License: Apache-2.0
BuildArch: noarch
%description
As the official one, without its program.
%install
mkdir -p %{buildroot}/etc/mackerel-agent
echo '# apikey = ""' >%{buildroot}/etc/mackerel-agent/mackerel-agent.conf
%files
%config(noreplace) /etc/mackerel-agent/mackerel-agent.conf
END
rpmbuild -bb --quiet --define "_topdir $work/rpmbuild" --define "_rpmdir $work/official" "$work/official.spec" >/dev/null 2>&1 || fail rpmbuild
said=$(there -i "$work"/official/*/*.rpm) || fail "the official package: $said"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s /usr/lib/systemd/system/mackerel-agent.service "$root/etc/systemd/system/multi-user.target.wants/"
echo 'apikey = "theirs"' >"$root$conf"
said=$(there -i "$first") || fail "rpm -i beside the official package: $said"
contains "beside the official agent the message says how to move" "$said" "systemctl disable --now mackerel-agent && systemctl enable --now wasaba"
expect "its configuration is the agent's to read, and for no other user" "$(mode $conf) $(inside cat $conf)" 'root:wasaba 640 apikey = "theirs"'
rm "$root"/etc/systemd/system/multi-user.target.wants/mackerel-agent.service
said=$(there -e mackerel-agent) || fail "rpm -e mackerel-agent: $said"
expect "what the official package takes away is brought back" "$(mode $conf) $(inside cat $conf)" 'root:wasaba 640 apikey = "theirs"'
