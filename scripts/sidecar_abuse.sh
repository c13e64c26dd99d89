#!/bin/sh
# Everything that strangers can do to a sidecar, in full: sidecar_abuse.sh [--quick]
#
# 100,000 connections, silent and deaf peers, floods, garbage, half and endless messages, probes,
# keys that are not on the list. A line each says how an honest client was served meanwhile and what
# the sidecar holds; fails when it was not served, or when memory and descriptors do not come back.
#
#   --quick      a slice of each, as in `meson test --suite integration`
set -u

cd "$(dirname "$0")/.." || exit 1
case ${1:-} in
'') amount=long ;;
--quick) amount=quick ;;
*)
    echo "usage: $0 [--quick]" >&2
    exit 2
    ;;
esac
. scripts/sidecar_build.sh
SAERL_ABUSE=$amount exec python3 -B tests/integration/test_serve_abuse.py
