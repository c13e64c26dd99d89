#!/bin/sh
# Writes the C source that puts files into the program: demo_data.sh OUTPUT ROOT NAME...
#
# .incbin keeps five megabytes out of the compiler's parser. The source is generated rather than
# written so that the build sees the data files as its inputs: no compiler reports what an
# assembler directive reads, and a changed file would leave a stale program.
set -eu

output=$1
root=$2
shift 2

{
    echo '/* Written by cli/demo_data.sh. */'
    echo '#include <stddef.h>'
    echo
    echo '#include "cli/demo_data.h"'
    echo
    i=0
    for name in "$@"; do
        # %progbits rather than @progbits: the latter begins a comment on some targets. Hidden
        # globals, not locals, so that link-time optimisation may move the table elsewhere.
        cat <<EOF
__asm__(".pushsection .rodata.demo,\\"a\\",%progbits\\n"
        ".balign 16\\n"
        ".globl demo_file_${i}_begin, demo_file_${i}_end\\n"
        ".hidden demo_file_${i}_begin\\n"
        ".hidden demo_file_${i}_end\\n"
        "demo_file_${i}_begin:\\n"
        ".incbin \\"$root/$name\\"\\n"
        "demo_file_${i}_end:\\n"
        ".byte 0\\n"
        ".popsection\\n");
extern const unsigned char demo_file_${i}_begin[], demo_file_${i}_end[];

EOF
        i=$((i + 1))
    done
    echo 'const struct demo_file demo_files[] = {'
    i=0
    for name in "$@"; do
        echo "    {\"$name\", demo_file_${i}_begin, demo_file_${i}_end},"
        i=$((i + 1))
    done
    echo '    {NULL, NULL, NULL},'
    echo '};'
} >"$output.new"
mv "$output.new" "$output"
