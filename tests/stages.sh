#!/bin/sh
# Runs targets of make one after the other, up to the first that fails, and prints what each of them took and which tests were the
# slowest: `stages.sh TARGET_FOLDER MAKE STAGE...`.
set -eu

log=$1/test.log
make=$2
shift 2
mkdir -p "$(dirname "$log")"
: >"$log"
begin=$(date +%s)
took=
for stage; do
    start=$(date +%s)
    # A pipe has the status of its last command, so that of make goes through a file.
    { "$make" --no-print-directory "$stage" 2>&1 || echo "$?" >"$log.failed"; } | tee -a "$log"
    took="$took$(printf '%8d s  %s' $(($(date +%s) - start)) "$stage")
"
    if [ -e "$log.failed" ]; then
        rm "$log.failed"
        failed=$stage
        break
    fi
done

# `test NAME ... ok <1.234s>`
slowest=$(sed -n 's/^test \(.*\) \.\.\. [A-Za-z]* <\([0-9.]*\)s>$/\2 s  \1/p' "$log" | sort -rn | head -n 10)
printf '\nthe ten slowest tests, which ran side by side:\n'
echo "$slowest" | while read -r seconds rest; do printf '%8.1f %s\n' "$seconds" "$rest"; done
printf 'the stages:\n%s%8d s  in all\n' "$took" $(($(date +%s) - begin))
if [ -n "${failed:-}" ]; then
    echo "make $failed failed" >&2
    exit 1
fi
