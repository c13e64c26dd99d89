#!/bin/sh
# Let libFuzzer look for inputs that break a parser: fuzz.sh [RUNS [NAME...]]
#
# Builds the targets of tests/fuzz under build/fuzz with clang, address and undefined-behaviour
# checks, and runs each for RUNS executions (20,000 unless given) from its corpus. What it finds
# new is kept in build/fuzz/corpus/NAME for the next time; a failing input is left in build/fuzz.
# Exit status 1 if a target failed.
set -u

cd "$(dirname "$0")/.." || exit 1
runs=${1:-20000}
[ $# -gt 0 ] && shift

dir=build/fuzz
if [ ! -f "$dir/build.ninja" ]; then
    mkdir -p build
    CC=clang-14 CFLAGS=-fsanitize=fuzzer-no-link meson setup "$dir" -Dtests=true -Dlibfuzzer=true \
        -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false \
        >"$dir.log" 2>&1 || {
        cat "$dir.log"
        exit 1
    }
fi
if [ $# -eq 0 ]; then
    for file in tests/fuzz/fuzz_*.c; do
        name=${file##*/fuzz_}
        set -- "$@" "${name%.c}"
    done
fi

failed=0
for name; do
    ninja -C "$dir" --quiet "tests/fuzz/fuzz_$name" || exit 1
    mkdir -p "$dir/corpus/$name"
    words=tests/fuzz/words/$name.dict
    [ -f "$words" ] || words=
    echo "== $name"
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$dir/tests/fuzz/fuzz_$name" \
        -runs="$runs" -max_len=4096 -timeout=5 -rss_limit_mb=2048 ${words:+-dict="$words"} \
        -artifact_prefix="$dir/$name-" -verbosity=0 -print_final_stats=1 \
        "$dir/corpus/$name" "tests/fuzz/corpus/$name" || failed=1
done
exit $failed
