#!/bin/sh
# Kill a sidecar under load, again and again: sidecar_kills.sh [CYCLES]
#
# SIGKILL at 1,000 (or CYCLES) random moments, some of them while it starts, with seven clients at
# work that keep an account of what was acknowledged. At the end nothing may be lost, counted twice
# or changed. About a third of a second a cycle; SAERL_SEED chooses other moments.
set -u

cd "$(dirname "$0")/.." || exit 1
case ${1:-1000} in
*[!0-9]* | 0)
    echo "usage: $0 [CYCLES]" >&2
    exit 2
    ;;
esac
. scripts/sidecar_build.sh
SAERL_KILLS=${1:-1000} exec python3 -B tests/integration/test_serve_kills.py
