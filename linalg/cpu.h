/*
 * linalg/cpu.h - what the CPU can do, and a mask to make it do less.
 */
#ifndef LINALG_CPU_H
#define LINALG_CPU_H

enum cpu_flags {
    CPU_AVX2 = 1 << 0,   /* AVX2, FMA, F16C */
    CPU_AVX512 = 1 << 1, /* AVX-512 F, BW, DQ, VL */
    CPU_AVX512_VNNI = 1 << 2,
    CPU_AVX512_BF16 = 1 << 3,
    CPU_AMX = 1 << 4,  /* AMX tiles, BF16 and INT8, and the system lets this process use them */
    CPU_NEON = 1 << 5, /* 64-bit Arm: always */
};

/*
 * Detected flags; what the OS saves on a context switch counts too. Asks Linux, once for the whole
 * process and its later threads, for leave to use AMX, which it wants to be asked for.
 */
unsigned cpu_detect(void);

/* "amx", "avx512bf16", "avx512vnni", "avx512", "avx2", "neon" or "scalar": the best level in
 * `flags`. */
const char *cpu_level_name(unsigned flags);

/* Flags up to a level by that name, for --cpu-mask; ~0u for an unknown name. */
unsigned cpu_flags_up_to(const char *level);

#endif
