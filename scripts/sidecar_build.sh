# What the long suites of the sidecar share: PROGRAM, built as scripts/test.sh builds it, unless the
# environment names one. To be sourced in the checkout.
# shellcheck shell=sh

CHECKOUT=$(pwd)
if [ -z "${PROGRAM:-}" ]; then
    if [ ! -f build/test-gcc/build.ninja ]; then
        mkdir -p build
        CC=gcc meson setup build/test-gcc --werror -Dtests=true >build/test-gcc.log 2>&1 || {
            cat build/test-gcc.log
            exit 1
        }
    fi
    ninja -C build/test-gcc --quiet saerl || exit 1
    PROGRAM=$CHECKOUT/build/test-gcc/saerl
fi
export CHECKOUT PROGRAM
