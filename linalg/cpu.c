#include "linalg/cpu.h"

#include <stddef.h>
#include <string.h>

#ifdef LINALG_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum {
    LEVEL_AVX512 = CPU_AVX2 | CPU_AVX512,
    LEVEL_VNNI = LEVEL_AVX512 | CPU_AVX512_VNNI,
    LEVEL_BF16 = LEVEL_VNNI | CPU_AVX512_BF16
};

/* Lowest first. */
static const struct level {
    const char *name;
    unsigned flags; /* all a level up to this one may use */
} levels[] = {
    {"scalar", 0},
    {"neon", CPU_NEON},
    {"avx2", CPU_AVX2},
    {"avx512", LEVEL_AVX512},
    {"avx512vnni", LEVEL_VNNI},
    {"avx512bf16", LEVEL_BF16},
    {"amx", LEVEL_BF16 | CPU_AMX},
};

enum {
    N_LEVELS = sizeof(levels) / sizeof(levels[0])
};

#ifdef LINALG_X86
/* Leaf 7 of CPUID; older compilers have no names for these bits. */
enum {
    LEAF7_ECX_AVX512_VNNI = 1 << 11,
    LEAF7_EDX_AMX_BF16 = 1 << 22,
    LEAF7_EDX_AMX_TILE = 1 << 24,
    LEAF7_EDX_AMX_INT8 = 1 << 25,
    LEAF7_EDX_AMX = LEAF7_EDX_AMX_BF16 | LEAF7_EDX_AMX_TILE | LEAF7_EDX_AMX_INT8,
    LEAF7_1_EAX_AVX512_BF16 = 1 << 5
};

/* __builtin_cpu_supports includes what the OS saves (XGETBV), but older compilers do not know
 * "f16c": bit 29 of ECX, usable wherever AVX is. */
static int has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

/* arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA): Linux 5.16 and later. */
static int may_use_tiles(void)
{
#ifdef SYS_arch_prctl
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return 0;
#endif
}

/* What comes on top of AVX-512. */
static unsigned detect_more(void)
{
    unsigned eax, ebx, ecx, edx, flags = 0;
    int has_tiles;

    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return 0;
    has_tiles = (edx & LEAF7_EDX_AMX) == LEAF7_EDX_AMX;
    if (ecx & LEAF7_ECX_AVX512_VNNI)
        flags |= CPU_AVX512_VNNI;
    if (has_tiles && may_use_tiles())
        flags |= CPU_AMX;
    /* The CPUs with tiles execute VDPBF16PS at half the rate of float32: without leave to use the
     * tiles it is of no use to us there. */
    if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & LEAF7_1_EAX_AVX512_BF16) &&
        (!has_tiles || flags & CPU_AMX))
        flags |= CPU_AVX512_BF16;
    return flags;
}

unsigned cpu_detect(void)
{
    unsigned flags = 0;

    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
        flags |= CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        flags |= CPU_AVX512 | detect_more();
    return flags;
}
#elif defined(LINALG_NEON)
unsigned cpu_detect(void)
{
    return CPU_NEON;
}
#else
unsigned cpu_detect(void)
{
    return 0;
}
#endif

const char *cpu_level_name(unsigned flags)
{
    const char *name = levels[0].name;

    for (size_t i = 0; i < N_LEVELS; i++) {
        if ((flags & levels[i].flags) == levels[i].flags)
            name = levels[i].name;
    }
    return name;
}

unsigned cpu_flags_up_to(const char *level)
{
    for (size_t i = 0; i < N_LEVELS; i++) {
        if (strcmp(level, levels[i].name) == 0)
            return levels[i].flags;
    }
    return ~0u;
}
