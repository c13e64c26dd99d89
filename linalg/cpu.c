#include "linalg/cpu.h"

#include <stddef.h>
#include <string.h>

#ifdef LINALG_X86
#include <cpuid.h>
#endif

static const struct level {
    const char *name;
    unsigned flags; /* all a level up to this one may use */
} levels[] = {
    {"scalar", 0},
    {"avx2", CPU_AVX2},
    {"avx512", CPU_AVX2 | CPU_AVX512},
};

enum {
    N_LEVELS = sizeof(levels) / sizeof(levels[0])
};

#ifdef LINALG_X86
/* __builtin_cpu_supports includes what the OS saves (XGETBV), but older compilers do not know
 * "f16c": bit 29 of ECX, usable wherever AVX is. */
static int has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

unsigned cpu_detect(void)
{
    unsigned flags = 0;

    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
        flags |= CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        flags |= CPU_AVX512;
    return flags;
}
#else
unsigned cpu_detect(void)
{
    return 0;
}
#endif

const char *cpu_level_name(unsigned flags)
{
    if (flags & CPU_AVX512)
        return "avx512";
    return flags & CPU_AVX2 ? "avx2" : "scalar";
}

unsigned cpu_flags_up_to(const char *level)
{
    for (size_t i = 0; i < N_LEVELS; i++) {
        if (strcmp(level, levels[i].name) == 0)
            return levels[i].flags;
    }
    return ~0u;
}
