#!/bin/sh
# The installed package under systemd itself, which runs in a container of systemd-nspawn: what the unit closes, what the agent closes, that it
# measures all the same, and the drop-ins.
. "$(dirname "$0")/lib.sh"
WITH=systemd,systemd-sysv,dbus,nginx-light,postgresql,redis-server
machine
umount "$root/proc"
cp "$DIST"/wasaba_*_"$(dpkg --print-architecture)".deb "$root/wasaba.deb"
inside dpkg --install /wasaba.deb >/dev/null 2>&1 || fail "dpkg --install"
standin
inside wasaba init -apikey="$key" -apibase="$url" 2>/dev/null
conf=/etc/mackerel-agent/mackerel-agent.conf
printf 'server { listen 127.0.0.1:18976; location = /nginx_status { stub_status; } }\n' >"$root/etc/nginx/conf.d/status.conf"

sed -i 's/^port = .*/port = 18977/' "$root"/etc/postgresql/*/main/postgresql.conf
sed -i 's/^port .*/port 18978/' "$root/etc/redis/redis.conf"

# A Docker engine of this machine, whose socket the container has, with a container that runs this program.
group=17999
inside groupadd --gid "$group" docker 2>/dev/null || inside groupmod --gid "$group" docker
mkdir "$work/engine"
unshare --net dockerd --data-root "$work/engine/data" --exec-root "$work/engine/exec" --pidfile "$work/engine/pid" --group "$group" \
    --host "unix://$work/engine/docker.sock" --bridge=none --iptables=false --log-level=error \
    --exec-opt native.cgroupdriver=cgroupfs >"$work/engine.log" 2>&1 &
pids="$! $pids"
export DOCKER_HOST="unix://$work/engine/docker.sock"
await "the engine answers" docker version
tar --create --directory "$RELEASE" wasaba | docker import - program >/dev/null
docker run --detach --name measured --network none program /wasaba -root=/r -pidfile=/p >/dev/null || fail "docker run"

# The filter of nspawn does not know Landlock on older machines.
mkdir -p "$root/srv/engine"
systemd-nspawn --quiet --directory="$root" --bind="$work/engine:/srv/engine" --register=no --keep-unit --boot --console=pipe \
    --system-call-filter='landlock_create_ruleset landlock_add_rule landlock_restrict_self' >"$work/boot.log" 2>&1 </dev/null &
pids="$pids $!"
booted=
init() { pgrep --parent "$(echo "$pids" | awk '{print $NF}')" | head -n 1; }
has_booted() { booted=$(init) && [ -n "$booted" ] && within systemctl is-system-running | grep -qE 'running|degraded'; }
within() { nsenter --target "$booted" --all env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@"; }
await "systemd runs" has_booted
within systemctl start nginx wasaba || fail "systemctl start: $(within journalctl --unit wasaba --no-pager | tail -n 20)"
await "metrics arrive" posts
main() { within systemctl show --property MainPID --value wasaba; }
status() { within sed -n "s/^$1:[[:space:]]*//p" "/proc/$(main)/status"; }
expect "its user is its own" "$(within stat -c %U "/proc/$(main)")" wasaba
expect "no capability" "$(status CapEff) $(status CapBnd)" "0000000000000000 0000000000000000"
expect "no new privileges" "$(status NoNewPrivs)" 1
contains "it confines itself further" "$(within wasaba health)" "closed are files and programs (Landlock"
contains "nothing but its ports" "$(within wasaba health)" "ports but 53, 80, "

# The machine as the agent sees it, tried by root, whom no owner and no mode hinders.
as_seen() { within nsenter --target "$(main)" --mount /bin/sh -c "$1" 2>&1 || true; }
for place in /etc /usr /var/lib /home /opt /boot; do
    contains "$place is read-only for it" "$(as_seen ": >$place/wasaba-test")" "Read-only file system"
done
expect "its own folder is not" "$(as_seen ': >/var/lib/mackerel-agent/test && rm /var/lib/mackerel-agent/test')" ""

# A plugin needs what the agent has given up: it is restarted for it.
first=$(main)
printf '[plugin.metrics.nginx]\nwasm = "nginx"\nsettings = { port = 18976 }\n' >>"$root$conf"
within systemctl reload wasaba || fail "systemctl reload"
restarted() { [ "$(main)" != "$1" ] && [ "$(main)" != 0 ]; }
await "a plugin that needs more restarts it" restarted "$first"
plugin_runs() { within wasaba plugin list | grep -q '^nginx *running *[1-9]'; }
await "nginx is measured" plugin_runs
expect "configtest by root finds what the agent finds" "$(within wasaba configtest 2>&1)" "\`$conf\`: no errors, no warnings"

# PostgreSQL, Redis and Docker, within the same walls.
within systemctl start redis-server "postgresql@$(ls "$root/etc/postgresql")-main" || fail "systemctl start: the servers"
answers() { within su postgres -c "psql --port 18977 --command \"$1\""; }
await "PostgreSQL answers" answers "select 1"
answers "create role mon login password 'of-the-test'; grant pg_monitor to mon" >/dev/null || fail "create role"
cat >>"$root$conf" <<'END'
[plugin.metrics.postgres]
wasm = "postgres"
settings = { hostname = "127.0.0.1", port = 18977, user = "mon", database = "postgres", password = "of-the-test", insecure-login = true }
[plugin.metrics.redis]
wasm = "redis"
settings = { host = "127.0.0.1", port = 18978 }
[docker]
host = "unix:///srv/engine/docker.sock"
END
said=$(within wasaba configtest 2>&1) || fail "configtest: $said"
contains "Docker's socket needs a drop-in" "$said" "enable its drop-in \`docker\`"
within sh -c "$(echo "$said" | sed -n 's/.*`docker`: //p')" || fail "enabling docker.conf"
has_values() { within wasaba status --json | tr -d ' \n' | grep -qE "\"name\":\"$1\",\"asked\":[0-9]+,\"took_ms\":[0-9.]+,\"result\":\"values\",\"values\":[1-9]"; }
for source in pluginpostgres pluginredis pluginnginx docker; do
    (await "$source is measured" has_values "$source") || fail "$(within wasaba status)"
done

# The drop-ins: programs, and root's.
second=$(main)
printf '[plugin.checks.who]\ncommand = "echo as $(id -un) in $(stat -c %%d:%%i /tmp)"\n' >>"$root$conf"
within systemctl reload wasaba || fail "systemctl reload"
await "a program restarts it" restarted "$second"
said=$(within wasaba configtest 2>&1)
contains "configtest names the drop-in" "$said" "enable its drop-in \`programs\`"
enable=$(echo "$said" | sed -n 's/.*`programs`: //p')
within sh -c "$enable" || fail "$enable"
check_says() { within wasaba status --json | grep -q "\"message\": \"as $1 "; }
await "with it the program runs as the agent's user" check_says wasaba
expect "and configtest is content" "$(within wasaba configtest 2>&1)" "\`$conf\`: no errors, no warnings"
sed -i 's/^\[plugin.checks.who\]/&\nuser = "www-data"/' "$root$conf"
said=$(within wasaba configtest 2>&1)
contains "another user needs another drop-in" "$said" "enable its drop-in \`root\`"
sed -i '/^user = "www-data"/d' "$root$conf"
within sh -c "$(echo "$said" | sed -n 's/.*`root`: //p')" || fail "enabling root.conf"
await "with that it runs as root, as the official agent" check_says root
expect "and keeps its host" "$(requests 'POST /api/v0/hosts ')" 1

within systemctl stop wasaba || fail "systemctl stop"
expect "it ended well" "$(within systemctl show --property Result --value wasaba)" success
