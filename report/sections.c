#include "report/sections.h"

const struct section *const sections[] = {
    &section_funnel,     &section_difficulty,    &section_quality, &section_diversity,
    &section_duplicates, &section_contamination, &section_sae,     &section_curriculum,
    &section_fields,     &section_baseline,      &section_repeat,  NULL,
};
