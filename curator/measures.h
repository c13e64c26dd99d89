/*
 * curator/measures.h - the numbers of a report that have a name: for --fail-on and `saerl diff`.
 */
#ifndef CURATOR_MEASURES_H
#define CURATOR_MEASURES_H

struct measure {
    const char *name;
    enum measure_kind {
        MEASURE_ROWS,   /* a count; "%" is of the rows that it is counted among */
        MEASURE_NUMBER, /* anything else; "%" is of 1 */
    } kind;
    enum measure_needs {
        MEASURE_DATA,
        MEASURE_VECTORS,     /* --activations and --sae, or --features */
        MEASURE_ACTIVATIONS, /* --activations and --sae */
        MEASURE_AGAINST,     /* --against */
        MEASURE_BASELINE,    /* --baseline */
    } needs;                 /* without it the measure is not known */
    const char *help;
};

/* Ends with name NULL; sorted as `saerl audit --help` lists them. */
extern const struct measure measures[];

#endif
