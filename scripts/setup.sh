#!/bin/sh
# Installs what is missing from Debian: setup.sh [--test | --cross]
#
#   --test    also what scripts/test.sh needs beside the build
#   --cross   also what scripts/cross_arm.sh needs beside the build
#
# Touches nothing when all is there, so it needs no rights and no network then.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/packages.sh
. "$here/packages.sh"

packages=$build_packages
case ${1:-} in
'') ;;
--test) packages="$packages $test_packages" ;;
--cross) packages="$packages $cross_packages" ;;
*)
    echo "usage: $0 [--test | --cross]" >&2
    exit 2
    ;;
esac

missing=
for package in $packages; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
# npm fetches what reports embed, and the driver of the browser tests. Debian's own is not the only
# one there is; where another one is on the PATH, Debian's may even be impossible to install.
command -v npm >/dev/null || missing="$missing nodejs npm"
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
    sudo=sudo
    if ! command -v sudo >/dev/null; then
        echo "$0: neither root nor sudo; please install:$missing" >&2
        exit 1
    fi
fi

echo "setup: installing$missing" >&2
# $sudo and $missing are lists of words.
# shellcheck disable=SC2086
{
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q update
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $missing
} >&2
