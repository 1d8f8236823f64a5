#!/bin/sh
# Runs targets of make one after the other, up to the first that fails, and prints what each of them took and which tests were the
# slowest: `stages.sh TARGET_FOLDER MAKE STAGE...`. A stage `e2e+checks` is two side by side: the second begins when the tests of the first
# run, which mostly wait, takes only what these leave, and is printed after them.
set -eu

log=$1/test.log
make=$2
shift 2
mkdir -p "$(dirname "$log")"
rm -f "$log.failed" "$log.beside"
: >"$log"
begin=$(date +%s)
took=
for stage; do
    start=$(date +%s)
    first=${stage%%+*}
    : >"$log.part"
    if [ "$first" != "$stage" ]; then
        beside=${stage#*+}
        {
            until grep -q '^running [0-9]* test' "$log.part"; do sleep 1; done
            nice "$make" --no-print-directory "$beside" >"$log.beside" 2>&1 || echo "$beside" >"$log.failed"
        } &
    fi
    # A pipe has the status of its last command, so that of make goes through a file.
    { "$make" --no-print-directory "$first" 2>&1 || echo "$first" >"$log.failed"; } | tee "$log.part"
    cat "$log.part" >>"$log"
    if [ "$first" != "$stage" ]; then
        # It still waits, if the tests did not come to run.
        echo "running 0 tests" >>"$log.part"
        wait
        cat "$log.beside"
    fi
    took="$took$(printf '%8d s  %s' $(($(date +%s) - start)) "$stage")
"
    if [ -e "$log.failed" ]; then
        failed=$(cat "$log.failed")
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
