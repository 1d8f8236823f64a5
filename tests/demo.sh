#!/bin/sh
# The demo of `make run`: starts an nginx on loopback, and the agent, which monitors it and this machine. All files are in $1/demo.
# With MACKEREL_APIKEY in the environment, the agent posts to Mackerel (or to MACKEREL_APIBASE).
set -eu
PATH=$PATH:/usr/sbin
target=$(cd "$1" && pwd)
demo=$target/demo
mkdir -p "$demo/root"

# A port on which nothing listens (state 0A in /proc/net/tcp). If another process takes it in the meantime, nginx reports that.
port=18080
while grep -q ":$(printf %04X "$port") [0-9A-F]*:0000 0A" /proc/net/tcp; do
    port=$((port + 1))
done

cat >"$demo/nginx.conf" <<CONF
pid $demo/nginx.pid;
error_log $demo/nginx.log;
daemon off;
events {}
http {
    access_log off;
    client_body_temp_path $demo/tmp;
    proxy_temp_path $demo/tmp;
    fastcgi_temp_path $demo/tmp;
    uwsgi_temp_path $demo/tmp;
    scgi_temp_path $demo/tmp;
    server {
        listen 127.0.0.1:$port;
        location = /nginx_status { stub_status; }
        location / { return 200 "hello\n"; }
    }
}
CONF

{
    if [ -n "${MACKEREL_APIKEY:-}" ]; then
        echo 'apikey = { env = "MACKEREL_APIKEY" }'
    fi
    if [ -n "${MACKEREL_APIBASE:-}" ]; then
        echo "apibase = \"$MACKEREL_APIBASE\""
    fi
    cat <<CONF
root = "$demo/root"
pidfile = "$demo/wasaba.pid"

[plugin.metrics.nginx]
wasm = "nginx"
settings = { port = $port }
CONF
} >"$demo/wasaba.conf"

nginx -e "$demo/nginx.log" -c "$demo/nginx.conf" &
nginx=$!
trap 'kill "$nginx" 2>/dev/null; wait "$nginx" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM
echo "the demo's nginx listens on http://127.0.0.1:$port/; the agent's files are in $demo"
"$target/release/wasaba" -conf "$demo/wasaba.conf"
