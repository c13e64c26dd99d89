#!/bin/sh
# From a bare Debian 12 to a finished run on the bundled data: demo.sh [DIR]
#
# Builds into build/demo; DIR, where data and results go, is saerl-demo unless given.
set -eu

start=$(pwd)
cd "$(dirname "$0")/.."
root=$(pwd)
dir=${1:-$root/saerl-demo}
case $dir in
/*) ;;
*) dir=$start/$dir ;;
esac

scripts/setup.sh
if [ ! -f build/demo/build.ninja ]; then
    mkdir -p build
    # Meson tells what is wrong on standard output, among much else.
    meson setup build/demo >build/demo.log 2>&1 || {
        cat build/demo.log >&2
        exit 1
    }
fi
ninja -C build/demo saerl

"$root/build/demo/saerl" demo "$dir"

echo
echo "The program is $root/build/demo/saerl"
echo "Data and recipe are in $dir, results in $dir/out"
