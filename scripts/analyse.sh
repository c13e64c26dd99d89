#!/bin/sh
# Static analysis of the program's own sources: analyse.sh [BUILD]
#
# BUILD is a configured build folder (for compile_commands.json); build/analyse is made otherwise.
# Which clang-tidy checks run, and why the others do not, is in .clang-tidy; what cppcheck may say
# is in scripts/cppcheck.suppressions.
set -eu

cd "$(dirname "$0")/.."
build=${1:-build/analyse}
[ -f "$build/build.ninja" ] || meson setup "$build" -Dtests=true >/dev/null

failed=no
# Build folders lie in build*/ and B/, here and in .gitignore.
own=$(find . -path './[a-z]*' ! -path './build*' -type f | cut -c 3- | sort)
sources=$(echo "$own" | grep '\.c$' | grep -v '^tests/')
scripts=$(echo "$own" | grep '\.sh$')

echo 'shellcheck'
# Lists of names, all of them ours and without spaces.
# shellcheck disable=SC2086
shellcheck -x $scripts .ci/run || failed=yes

echo 'cppcheck'
# shellcheck disable=SC2086
cppcheck --quiet --std=c11 --language=c -j "$(nproc)" --inline-suppr \
    --enable=warning,performance,portability --suppressions-list=scripts/cppcheck.suppressions \
    --error-exitcode=1 -I . -D_GNU_SOURCE -DSAERL_VERSION='""' -U__aarch64__ $sources || failed=yes

echo 'clang-tidy'
# Sources of another CPU are not in the compilation database, so they are left out.
compiled=$(for source in $sources; do
    ! grep -q "/$source\"" "$build/compile_commands.json" || echo "$source"
done)
# One file a run: with several, version 14 takes va_start() for a no-op in the later ones.
tidy="clang-tidy-14 --quiet -p $build"
# shellcheck disable=SC2086
echo "$compiled" | xargs -P "$(nproc)" -n 1 $tidy 2>"$build.tidy.log" || {
    grep -v 'warnings generated\|^Suppressed\|^Use -header-filter' "$build.tidy.log" || true
    failed=yes
}

[ $failed = no ]
