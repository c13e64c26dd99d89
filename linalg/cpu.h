/*
 * linalg/cpu.h - what the CPU can do, and a mask to make it do less.
 */
#ifndef LINALG_CPU_H
#define LINALG_CPU_H

enum cpu_flags {
    CPU_AVX2 = 1 << 0,   /* AVX2, FMA, F16C */
    CPU_AVX512 = 1 << 1, /* AVX-512 F, BW, DQ, VL */
};

/* Detected flags (what the OS saves on a context switch counts too). 0 off x86. */
unsigned cpu_detect(void);

/* "avx512", "avx2" or "scalar": the best level in `flags`. */
const char *cpu_level_name(unsigned flags);

/* Flags up to a level by that name, for --cpu-mask; ~0u for an unknown name. */
unsigned cpu_flags_up_to(const char *level);

#endif
