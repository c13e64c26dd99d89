#!/bin/sh
# Unpacks one package of npm, held against its hash: npm_package.sh NAME VERSION SHA512 DIR
#
# DIR then holds what the package holds; one that is there already is left alone. The archive is
# kept in subprojects/packagecache, where Meson keeps its own downloads: with it there, no network
# and no npm is needed. Exit 1, and a word on why, where it cannot be had.
set -eu

name=$1
version=$2
sha512=$3
dir=$4

[ ! -e "$dir" ] || exit 0
cache=$(cd "$(dirname "$0")/.." && pwd)/subprojects/packagecache
archive=$cache/$name-$version.tgz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

if [ ! -f "$archive" ]; then
    command -v npm >/dev/null || {
        echo "$name $version: neither npm nor $archive is here" >&2
        exit 1
    }
    # Its own notices on new versions are no concern of ours.
    (cd "$work" && npm pack --silent --fetch-retries=1 --fetch-timeout=20000 \
        "$name@$version" >npm.log 2>&1) || {
        reason=$(grep -v 'complete log\|_logs/' "$work/npm.log" | grep '[a-z]' | tail -n 1)
        echo "$name $version: npm pack failed: $reason" >&2
        exit 1
    }
    found=$work/$name-$version.tgz
else
    found=$archive
fi
echo "$sha512  $found" | sha512sum --check --status || {
    echo "$name $version: $found is not what was asked for (SHA-512 differs)" >&2
    exit 1
}
if [ "$found" != "$archive" ] && mkdir -p "$cache" 2>/dev/null; then
    cp "$found" "$archive.$$" && mv "$archive.$$" "$archive"
fi
mkdir -p "$(dirname "$dir")"
mkdir "$work/unpacked"
tar -xzf "$found" -C "$work/unpacked" --strip-components=1 --no-same-owner
mv -T "$work/unpacked" "$dir" 2>/dev/null || [ -e "$dir" ] # somebody else was faster
