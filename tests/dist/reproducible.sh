#!/bin/sh
# Makes everything twice, in two clones of this commit in two folders with their own target folders, and compares what came out: the
# programs, the components, and what `make dist` leaves. ARCHES="amd64" makes only that one.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for name in one another-with-a-longer-name; do
    git clone --quiet "$here/../.." "$work/$name"
    # The times of both differ, and so do the numbers of their processes.
    (cd "$work/$name" && agent/packaging/dist.sh target dist >"$work/$name.log" 2>&1) || {
        tail -n 20 "$work/$name.log" >&2
        exit 1
    }
    (cd "$work/$name/target/dist" && find release-* -type f | LC_ALL=C sort | xargs sha256sum) >"$work/$name.sums"
    cat "$work/$name/dist/SHA256SUMS" >>"$work/$name.sums"
done
cat "$work/one.sums"
diff "$work/one.sums" "$work/another-with-a-longer-name.sums" || {
    echo "not reproducible" >&2
    exit 1
}
echo "the same in both folders"
