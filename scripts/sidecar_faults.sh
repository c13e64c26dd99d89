#!/bin/sh
# What can happen to a sidecar beside being killed, often: sidecar_faults.sh [--quick]
#
# SIGTERM under load 100 times, SIGSTOP, a full disk and one that cannot be written (as root), a
# failing fdatasync (with strace), 256 descriptors.
#
#   --quick      a few times each, as in `meson test --suite integration`
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
SAERL_FAULTS=$amount exec python3 -B tests/integration/test_serve_faults.py
