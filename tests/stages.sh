#!/bin/sh
# Runs make targets one after the other until one fails, and prints the duration of each and the slowest tests:
# `stages.sh TARGET_FOLDER MAKE STAGE...`. A stage like `e2e+checks` runs two targets in parallel: the second starts when the first has
# finished with cargo, which runs one build at a time, and leaves a core unused; it runs at a lower priority, and its output is printed
# last.
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
            until grep -q '^running [0-9]* test\|^compiling components$' "$log.part"; do sleep 1; done
            nice "$make" --no-print-directory "$beside" >"$log.beside" 2>&1 || echo "$beside" >"$log.failed"
        } &
    fi
    # The exit status of a pipe is that of its last command, so a failure of make is recorded in a file.
    { "$make" --no-print-directory "$first" 2>&1 || echo "$first" >"$log.failed"; } | tee "$log.part"
    cat "$log.part" >>"$log"
    if [ "$first" != "$stage" ]; then
        # Unblocks the second target if the first one failed early.
        echo "running 0 tests" >>"$log.part"
        wait
        tee -a "$log" <"$log.beside"
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
printf '\nthe ten slowest tests, which ran in parallel:\n'
echo "$slowest" | while read -r seconds rest; do printf '%8.1f %s\n' "$seconds" "$rest"; done
printf 'the stages:\n%s%8d s  in total\n' "$took" $(($(date +%s) - begin))
if [ -n "${failed:-}" ]; then
    echo "make $failed failed" >&2
    exit 1
fi
