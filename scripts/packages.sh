# The Debian 12 packages of this project, in one place; scripts/setup.sh sources this file.
# shellcheck shell=sh disable=SC2034

# Compiling the program and its tests, and running them with meson.
build_packages='
gcc libc6-dev
meson ninja-build pkg-config python3
libarchive-dev
libcmocka-dev
libjson-c-dev
libmicrohttpd-dev
libopenblas-pthread-dev
libsqlite3-dev
libxxhash-dev
libyaml-dev
libzmq3-dev
scdoc
zlib1g-dev
'

# The other half of scripts/test.sh: the second compiler, sanitizers, analysers, valgrind.
test_packages='
chromium
clang-14 libclang-rt-14-dev
clang-format-14 clang-tidy-14
cppcheck
git
libc6-dbg valgrind
python3-numpy python3-torch python3-zmq
shellcheck
sqlite3
strace systemd
'

# For scripts/cross_arm.sh, which unpacks the arm64 packages of what is linked by itself.
cross_packages='
gcc-aarch64-linux-gnu
qemu-user
'
