#!/bin/sh
# Prints what the first minute of a fresh install costs, in milliseconds of CPU of the agent and all its children: with the plugins of a
# live nginx, Redis and PostgreSQL.
. "$(dirname "$0")/lib.sh"
tar --extract --file "$DIST/wasaba-$version-linux-$(dpkg --print-architecture).tar.gz" --no-same-owner --directory "$work"
program=$work/wasaba-$version-linux-$(dpkg --print-architecture)
chmod 755 "$work"
mkdir "$work/nginx" "$work/state"
cat >"$work/nginx.conf" <<END
user root; daemon off; master_process off; pid $work/nginx/pid; error_log $work/nginx/log; events {}
http { access_log off; server { listen 127.0.0.1:18977; location = /nginx_status { stub_status; } } }
END
PATH=$PATH:/usr/sbin nginx -c "$work/nginx.conf" -e "$work/nginx/log" &
pids="$pids $!"
redis-server --port 18978 --save '' --dir "$work" >/dev/null &
pids="$pids $!"
bin=$(echo /usr/lib/postgresql/*/bin)
install -d -o postgres "$work/postgres"
as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
as_postgres "$bin/initdb" --auth=trust -D "$work/postgres/data" >/dev/null
as_postgres "$bin/postgres" -D "$work/postgres/data" -p 18979 -h 127.0.0.1 -k "$work/postgres" >/dev/null 2>&1 &
pids="$pids $!"
standin
cat >"$work/agent.conf" <<END
apikey = "$key"
apibase = "$url"
root = "$work/state"
pidfile = "$work/pid"
cloud_platform = "none"
[plugin.metrics.nginx]
wasm = "nginx"
settings = { port = 18977 }
[plugin.metrics.redis]
wasm = "redis"
settings = { port = 18978 }
[plugin.metrics.postgres]
wasm = "postgres"
settings = { port = 18979, user = "postgres", sslmode = "disable" }
END
await "PostgreSQL answers" "$bin/pg_isready" -h 127.0.0.1 -p 18979
"$program/wasaba" -conf "$work/agent.conf" >"$work/agent.log" 2>&1 &
agent=$!
pids="$pids $agent"
sleep 60
# utime, stime, and those of children that have ended, in hundredths of a second; the scheduler has it in nanoseconds for the agent alone.
milliseconds=$(($(cut -d ' ' -f 1 "/proc/$agent/schedstat") / 1000000))
for task in /proc/"$agent"/task/*/schedstat; do
    [ "$task" = "/proc/$agent/task/$agent/schedstat" ] || milliseconds=$((milliseconds + $(cut -d ' ' -f 1 "$task") / 1000000))
done
children=$(sed 's/.*) //' "/proc/$agent/stat" | awk '{print ($14 + $15) * 10}')
all=$(sed 's/.*) //' "/proc/$agent/stat" | awk '{print ($12 + $13) * 10}')
if grep -E 'WARN|ERROR' "$work/agent.log"; then fail "the agent has warnings"; fi
expect "nothing was compiled" "$(ls -A "$work/state/compiled")" ""
echo "the first minute of a fresh install with three plugins: $milliseconds ms of CPU, $children ms of children (with threads that have ended, in steps of 10: $all ms)"
kill "$agent"
wait "$agent"
