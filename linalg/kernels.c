#include "linalg/kernels.h"

#include "linalg/cpu.h"
#include "linalg/kernels_internal.h"

void kernels_init(struct kernels *kernels, unsigned cpu_flags)
{
    kernels_init_scalar(kernels);
#ifdef LINALG_X86
    if (cpu_flags & CPU_AVX2)
        kernels_init_avx2(kernels);
    if (cpu_flags & CPU_AVX512)
        kernels_init_avx512(kernels);
#endif
#ifdef LINALG_NEON
    if (cpu_flags & CPU_NEON)
        kernels_init_neon(kernels);
#endif
    kernels->cpu_flags = cpu_flags;
}
