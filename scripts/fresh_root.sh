#!/bin/sh
# Proves that a bare Debian 12 is enough: fresh_root.sh [--keep] [COMMAND...]
#
# Makes a minimal root with debootstrap, clones this checkout into it (and copies ../shared
# where there is one, so that tests that want it do not skip) and runs there, as root, each
# COMMAND: scripts/demo.sh and scripts/test.sh unless given. Needs root and debootstrap.
#
#   --keep       leave the root for a look at it; its place is printed
#   NO_SHARED=1  leave ../shared out
#   MIRROR=URL   where debootstrap fetches from; by default what this machine's own apt uses
#
# The new root reaches packages the way this machine does: apt's sources, keys, proxy, resolver and
# npm's registry are copied from here, so no host is named in this file. It lies under TMPDIR and is
# deleted at the end; the mounts live in a mount namespace of their own and vanish with it.
set -eu

if [ "${FRESH_ROOT_INSIDE:-}" != yes ]; then
    exec env FRESH_ROOT_INSIDE=yes unshare --mount --pid --fork --kill-child "$0" "$@"
fi

keep=no
if [ "${1:-}" = --keep ]; then
    keep=yes
    shift
fi
[ $# -gt 0 ] || set -- scripts/demo.sh scripts/test.sh

cd "$(dirname "$0")/.."
suite=bookworm
if [ -z "${MIRROR:-}" ]; then
    # shellcheck disable=SC2016
    MIRROR=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' \
        'Identifier: Packages' |
        awk -v suite=$suite '$1 == suite && $2 == "main" { print $3; exit }')
fi
if [ -z "$MIRROR" ]; then
    echo "$0: apt here has no source of $suite main; give one: MIRROR=URL $0" >&2
    exit 1
fi

base=$(mktemp -d)
root=$base/root
clean_up()
{
    if [ $keep = yes ]; then
        echo "kept: $root"
    else
        umount "$root/proc" "$root/dev/shm" 2>/dev/null || true
        rm -rf --one-file-system "$base"
    fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "== debootstrap of $suite"
eval "$(apt-config shell apt_proxy Acquire::http::Proxy)"
[ -z "${apt_proxy:-}" ] || export http_proxy="$apt_proxy"
debootstrap --variant=minbase $suite "$root" "$MIRROR" >"$base/debootstrap.log" 2>&1 || {
    tail -n 20 "$base/debootstrap.log"
    exit 1
}

# Reaching the packages: as this machine does.
rm -f "$root"/etc/apt/sources.list
for name in sources.list sources.list.d auth.conf auth.conf.d keyrings trusted.gpg trusted.gpg.d; do
    [ ! -e "/etc/apt/$name" ] || cp -rL "/etc/apt/$name" "$root/etc/apt/"
done
cp -rL /usr/share/keyrings "$root/usr/share/"
apt-config dump Acquire | grep -v '^Acquire::IndexTargets' >"$root/etc/apt/apt.conf.d/90host"
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || {
    mkdir -p "$root/etc/ssl/certs"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
}
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
# npm's too, if there is one here.
npm_registry=$(npm config get registry 2>/dev/null || true)
npm_cafile=$(npm config get cafile 2>/dev/null || true)
if [ -f "$npm_cafile" ]; then
    cp -L "$npm_cafile" "$root/etc/ssl/npm-ca.pem"
    npm_cafile=/etc/ssl/npm-ca.pem
else
    npm_cafile=
fi
mount -t proc proc "$root/proc"
mkdir -p "$root/dev/shm"
mount -t tmpfs shm "$root/dev/shm"

git clone -q --no-hardlinks . "$root/src/saerl"
git diff --quiet HEAD || echo 'note: changes that are not committed are not copied'
if [ -d ../shared ] && [ -z "${NO_SHARED:-}" ]; then
    cp -rL ../shared "$root/src/shared"
fi

for command in "$@"; do
    echo "== fresh root: $command"
    start=$(date +%s)
    # The command is a line for the shell inside, not words of this one.
    chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        ${http_proxy:+http_proxy="$http_proxy"} \
        ${npm_registry:+npm_config_registry="$npm_registry"} \
        ${npm_cafile:+npm_config_cafile="$npm_cafile"} sh -c "cd /src/saerl && $command"
    echo "== took $(($(date +%s) - start)) s"
done
echo '== fresh root: all done'
