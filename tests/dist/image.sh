#!/bin/sh
# The image's archive, as registries and engines read it: both architectures, what it is besides its files, and `docker load`.
. "$(dirname "$0")/lib.sh"
archive=$DIST/wasaba-$version-image.tar
index=$(skopeo inspect --raw "oci-archive:$archive:$version")
expect "its architectures" "$(echo "$index" | grep -o '"architecture": "[a-z0-9]*"' | tr '\n' ' ')" '"architecture": "amd64" "architecture": "arm64" '
for arch in amd64 arm64; do
    found=$(skopeo --override-arch "$arch" inspect --raw --config "oci-archive:$archive:$version")
    contains "$arch: its architecture" "$found" "\"architecture\": \"$arch\""
    for word in '"User": "10001:10001"' '"Healthcheck": {' '"/usr/bin/wasaba", "health"' '"Entrypoint": ["/usr/bin/wasaba"]' '"StopSignal": "SIGTERM"'; do
        contains "$arch: $word" "$found" "$word"
    done
done
skopeo copy --quiet --all "oci-archive:$archive:$version" "dir:$work/copied" || fail "skopeo copy"
ok "a registry's client copies both"

socket=$work/docker.sock
dockerd --data-root "$work/docker" --exec-root "$work/exec" --pidfile "$work/docker.pid" --host "unix://$socket" \
    --bridge none --iptables=false --ip6tables=false >"$work/docker.log" 2>&1 &
engine=$!
pids="$pids $engine"
await "an engine answers" docker --host "unix://$socket" version
docker --host "unix://$socket" load --quiet --input "$archive" >/dev/null || fail "docker load"
expect "docker load" "$(docker --host "unix://$socket" images --format '{{.Repository}}:{{.Tag}}' | sort | tr '\n' ' ')" \
    "wasaba:$version-amd64 wasaba:$version-arm64 "
printed=$(docker --host "unix://$socket" run --rm --network none "wasaba:$version-$(dpkg --print-architecture)" version) || fail "docker run"
contains "docker run" "$printed" "wasaba $version"
kill "$engine"
wait "$engine" || true
find "$work" -xdev -depth -type d -exec mountpoint -q {} \; -exec umount -l {} \; 2>/dev/null || true
