#!/bin/sh
# Print docs/settings.md from the tables of the settings: update_docs.sh [BUILD]
set -eu

cd "$(dirname "$0")/.."
build=${1:-build/docs}
[ -f "$build/build.ninja" ] || meson setup "$build" -Dtests=true >/dev/null
ninja -C "$build" --quiet tests/lint/settings_doc
"$build/tests/lint/settings_doc" >docs/settings.md.new
mv docs/settings.md.new docs/settings.md
