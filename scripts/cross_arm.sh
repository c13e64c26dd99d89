#!/bin/sh
# The program for 64-bit Arm, compiled and tested on another CPU: cross_arm.sh [--all]
#
# Cross-compiles linalg/, warnings are errors, and runs its tests under qemu, which shows whether
# the numbers are right and says nothing of speed.
#
#   --all   the whole program, and every suite but lint and integration
#
# The libraries come from Debian's arm64 packages. They are unpacked into build/cross-arm/root and
# not installed: this system's own list of architectures stays as it is. build/cross-arm/meson.ini
# is a cross file for builds of your own.
#
# Where the compiler, qemu or the packages cannot be had: one line that says "skipped" and why, and
# exit status 0.
set -eu

all=no
case ${1:-} in
'') ;;
--all) all=yes ;;
*)
    echo "usage: $0 [--all]" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
dir=$PWD/build/cross-arm
root=$dir/root

skip()
{
    echo "skipped: $1"
    exit 0
}

[ "$(uname -m)" != aarch64 ] || skip 'this is 64-bit Arm, where the ordinary suites do it all'
[ "$(id -u)" -ne 0 ] || scripts/setup.sh --cross || skip 'the cross compiler cannot be installed'
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v $tool >/dev/null || skip "no $tool here; scripts/setup.sh --cross installs it"
done

# fetch PACKAGE...: with all they depend on, into $dir/apt. This apt has a state of its own, in
# which nothing is installed, and the sources and keys of this system.
fetch()
{
    mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial" || return 1
    : >"$dir/apt/status"
    cat >"$dir/apt/conf" <<END || return 1
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "$dir/apt";
Dir::State::status "$dir/apt/status";
Dir::Cache "$dir/apt";
END
    APT_CONFIG=$dir/apt/conf apt-get -q update &&
        APT_CONFIG=$dir/apt/conf apt-get -q install -y --download-only "$@"
}

# unpack: what was fetched, into $root, which is there whole or not at all.
unpack()
{
    rm -rf "$root" "$root.new"
    mkdir -p "$root.new"
    for package in "$dir"/apt/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" |
            tar -x -C "$root.new" --exclude=./usr/share --exclude=./usr/bin
    done
    echo "$wanted" >"$root.new/wanted"
    mv "$root.new" "$root"
    rm -rf "$dir/apt"
}

# What the build links with is what Debian calls -dev.
wanted=$(echo "$build_packages" | tr ' ' '\n' | grep -e '-dev$')
mkdir -p "$dir"
if [ "$(cat "$root/wanted" 2>/dev/null)" != "$wanted" ]; then
    # $wanted is a list of names.
    # shellcheck disable=SC2086
    fetch $wanted >"$dir/fetch.log" 2>&1 || {
        tail -n 5 "$dir/fetch.log" >&2
        skip 'the arm64 packages cannot be had'
    }
    rm -rf "$dir/build"
    unpack
fi

# OpenBLAS lies where only an installed package's symbolic links would lead.
libs=/usr/lib/aarch64-linux-gnu
blas=$libs/openblas-pthread
cat >"$dir/meson.ini.new" <<END
[binaries]
c = ['aarch64-linux-gnu-gcc', '--sysroot=$root']
ar = 'aarch64-linux-gnu-ar'
strip = 'aarch64-linux-gnu-strip'
pkgconfig = 'pkg-config'
exe_wrapper = ['qemu-aarch64', '-L', '$root', '-E', 'LD_LIBRARY_PATH=$blas']

[properties]
sys_root = '$root'
pkg_config_libdir = '$root$libs/pkgconfig:$root$blas/pkgconfig'

[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
END
# A file that is newer than the build, if only by its date, has meson configure again.
cmp -s "$dir/meson.ini.new" "$dir/meson.ini" || mv "$dir/meson.ini.new" "$dir/meson.ini"

if [ ! -f "$dir/build/build.ninja" ]; then
    meson setup "$dir/build" --cross-file "$dir/meson.ini" --werror -Dtests=true \
        >"$dir/build.log" 2>&1 || {
        cat "$dir/build.log"
        exit 1
    }
fi

if [ $all = yes ]; then
    ninja -C "$dir/build" --quiet all meson-test-prereq
    # qemu takes many times as long.
    meson test -C "$dir/build" --no-rebuild --print-errorlogs -t 10 \
        --no-suite lint --no-suite integration
else
    tests='linalg_blas linalg_csr linalg_kernels linalg_product'
    # A list of names.
    # shellcheck disable=SC2046,SC2086
    {
        ninja -C "$dir/build" --quiet $(printf 'tests/unit/test_%s ' $tests)
        meson test -C "$dir/build" --no-rebuild --print-errorlogs $tests
    }
fi
