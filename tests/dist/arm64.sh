#!/bin/sh
# The programs for arm64 under qemu, whose processor is another than this machine's: from the archive and from the image, against a live
# nginx. The kernel starts them as its own in a namespace of users of their own, since the agent starts itself to compile.
. "$(dirname "$0")/lib.sh"
if [ "${1:-}" != registered ]; then
    exec unshare --user --map-root-user --mount "$0" registered
fi
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc || fail "binfmt_misc of a namespace of users: this needs Linux 6.7"
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":qemu-aarch64:M::$magic:$mask:/usr/bin/qemu-aarch64-static:F" >/proc/sys/fs/binfmt_misc/register

tar --extract --file "$DIST/wasaba-$version-linux-arm64.tar.gz" --no-same-owner --directory "$work"
unpacked=$work/wasaba-$version-linux-arm64
port=18977
mkdir "$work/nginx" "$work/state"
cat >"$work/nginx.conf" <<END
user root; daemon off; master_process off; pid $work/nginx/pid; error_log $work/nginx/log; events {}
http { access_log off; client_body_temp_path $work/nginx; proxy_temp_path $work/nginx; fastcgi_temp_path $work/nginx;
uwsgi_temp_path $work/nginx; scgi_temp_path $work/nginx;
server { listen 127.0.0.1:$port; location = /nginx_status { stub_status; } } }
END
PATH=$PATH:/usr/sbin nginx -c "$work/nginx.conf" -e "$work/nginx/log" &
pids="$pids $!"
echo "root = \"$work/state\"" >"$work/agent.conf"
contains "version" "$("$unpacked/wasaba" version)" "wasaba $version"
contains "version names the architecture" "$("$unpacked/wasaba" version)" aarch64
contains "once" "$("$unpacked/wasaba" once -conf "$work/agent.conf" 2>/dev/null)" loadavg5
collect() { "$unpacked/wasaba" plugin run -conf "$work/agent.conf" nginx -port="$port" 2>/dev/null; }
await "nginx answers" collect
contains "plugin run, against a live nginx" "$(collect)" nginx.connections.connections
expect "what this machine has compiled is accepted" "$(ls -A "$work/state/compiled" 2>/dev/null)" ""
# Without the shipped code it compiles the same.
cp "$unpacked/wasaba" "$work/bare"
"$work/bare" plugin compile -conf "$work/agent.conf" -root "$work/state" "$unpacked"/plugins/*.wasm >/dev/null
expect "compiled there, it is the same" "$(cd "$work/state/compiled" && sha256sum ./*)" "$(cd "$unpacked/compiled" && sha256sum ./*)"

# The root of the image, without the first process of a container, for which qemu lacks a system call.
skopeo --override-arch arm64 copy --quiet "oci-archive:$DIST/wasaba-$version-image.tar:$version" "oci:$work/oci:image"
umoci unpack --rootless --image "$work/oci:image" "$work/bundle" >/dev/null 2>&1 || fail "umoci unpack"
image=$work/bundle/rootfs
mkdir -p "$image/proc" "$image/sys"
mount --rbind /proc "$image/proc"
standin
env -i WASABA_CONTAINER=1 PATH=/usr/bin apikey="$key" opts="-apibase=$url" /usr/sbin/chroot "$image" /usr/bin/wasaba run >"$work/agent.log" 2>&1 &
agent=$!
pids="$pids $agent"
await "the image posts" posts
await "health says that the agent works" env -i WASABA_CONTAINER=1 /usr/sbin/chroot "$image" /usr/bin/wasaba health
stop
