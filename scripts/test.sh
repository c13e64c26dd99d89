#!/bin/sh
# Everything that can tell whether this checkout is good: test.sh [--quick]
#
#   gcc, release       every suite, warnings are errors
#   clang, sanitizers  every suite again, but lint and what is Python's work alone, under address
#                      and undefined-behaviour checks
#   valgrind           the unit tests of the code that reads foreign files
#   analysers          cppcheck, clang-tidy, shellcheck (scripts/analyse.sh)
#   64-bit Arm         linalg/ cross-compiled, its tests under qemu (scripts/cross_arm.sh)
#
#   --quick            the first only, and nothing is installed beyond the build's own needs
#
# Ends with one line, "N passed, N failed, N skipped", that counts test cases, one for a program
# without cases of its own; exit status 1 unless nothing failed. Builds lie under build/.
set -u

quick=no
case ${1:-} in
'') ;;
--quick) quick=yes ;;
*)
    echo "usage: $0 [--quick]" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")/.." || exit 1
if [ $quick = yes ]; then
    scripts/setup.sh || exit 1
else
    scripts/setup.sh --test || exit 1
fi

tally=$(mktemp) || exit 1
trap 'rm -f "$tally"' EXIT INT TERM

# One step that either passes or fails: step NAME COMMAND...
step()
{
    name=$1
    shift
    echo "== $name"
    if "$@"; then
        echo '1 0 0' >>"$tally"
    else
        echo "FAILED: $name"
        echo '0 1 0' >>"$tally"
        return 1
    fi
}

# build DIR CC OPTION...: configure afresh if that was never done, then compile program and tests.
build()
{
    dir=$1
    compiler=$2
    shift 2
    if [ ! -f "$dir/build.ninja" ]; then
        CC=$compiler meson setup "$dir" --werror -Dtests=true "$@" >"$dir.log" 2>&1 || {
            cat "$dir.log"
            return 1
        }
    fi
    ninja -C "$dir" --quiet all meson-test-prereq
}

# suites NAME DIR OPTION...: run meson's tests and count their cases.
suites()
{
    name=$1
    dir=$2
    shift 2
    echo "== $name"
    # A log of an earlier run must not be taken for this one's.
    rm -f "$dir"/meson-logs/testlog*.json
    CMOCKA_MESSAGE_OUTPUT=TAP meson test -C "$dir" --no-rebuild --print-errorlogs "$@"
    python3 tests/support/count_cases.py "$dir"/meson-logs/testlog*.json >>"$tally" || {
        echo "FAILED: $name left no log"
        echo '0 1 0' >>"$tally"
    }
}

mkdir -p build
if step 'build: gcc, release' build build/test-gcc gcc; then
    suites 'tests: gcc, release' build/test-gcc
fi

if [ $quick = no ]; then
    # clang's run-time libraries are not part of what it links with --no-undefined.
    if step 'build: clang, sanitizers' build build/test-asan clang-14 \
        -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false; then
        # The default for undefined behaviour is to print and go on, which no test would notice.
        ASAN_OPTIONS=allow_addr2line=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
            suites 'tests: clang, sanitizers' build/test-asan -t 4 --no-suite lint \
            --no-suite interpreted
    fi
    if [ -f build/test-gcc/build.ninja ]; then
        # What reads foreign bytes, and the plainest users of memory; all of it would take hours.
        valgrinded=$(meson test -C build/test-gcc --no-rebuild --list --suite unit 2>/dev/null |
            sed -n 's/.* \/ \(\(base\|formats\|settings\)_.*\)/\1/p')
        # $valgrinded is a list of names.
        # shellcheck disable=SC2086
        suites 'tests: valgrind' build/test-gcc -t 10 $valgrinded --logbase testlog-valgrind \
            --wrapper 'valgrind --quiet --error-exitcode=99 --leak-check=full'
    fi
    step 'analysers' scripts/analyse.sh build/test-gcc
    step '64-bit Arm' scripts/cross_arm.sh
fi

awk '{ passed += $1; failed += $2; skipped += $3 }
     END {
         printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
         exit failed > 0
     }' "$tally"
