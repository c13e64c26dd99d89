/*
 * cli/demo_data.h - the files of examples/demo, inside the program.
 *
 * `saerl demo` has to work from a bare executable, so the build puts the files into read-only data
 * (cli/demo_data.sh writes the source, examples/demo/meson.build lists the files). Immutable,
 * shareable.
 */
#ifndef CLI_DEMO_DATA_H
#define CLI_DEMO_DATA_H

struct demo_file {
    const char *path;           /* relative to the demo folder, "sae/cfg.json" */
    const unsigned char *begin; /* aligned to 16 bytes */
    const unsigned char *end;   /* one past the last byte */
};

/* Ends with a row whose path is NULL. Folders are implied by the paths. */
extern const struct demo_file demo_files[];

#endif
