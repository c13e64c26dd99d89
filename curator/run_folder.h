/*
 * curator/run_folder.h - a run's output: written aside, renamed when whole, resumed when not.
 *
 *     DIR.partial/            the work folder; locked by the process that owns it
 *     DIR.partial/.stages/    results of finished stages, each with the key it belongs to
 *     DIR/                    the finished run; its manifest.json carries the fingerprint
 *
 * An interrupted run leaves DIR.partial; the next run with the same fingerprint goes on from there,
 * one with another is a conflict. A run that failed leaves it for whoever comes next: a changed
 * recipe is the usual answer to a failure, and stages that it does not touch are still good.
 */
#ifndef CURATOR_RUN_FOLDER_H
#define CURATOR_RUN_FOLDER_H

#include <stdbool.h>

#include "base/error.h"
#include "base/hash.h"

enum run_folder_mode {
    RUN_FOLDER_RESUME, /* go on where an interrupted run stopped; leave finished ones alone */
    RUN_FOLDER_FRESH,  /* replace whatever run is there */
    RUN_FOLDER_STATE,  /* as RESUME, in a state folder: the way on is another of those */
};

struct run_folder {
    char *path;  /* DIR */
    char *work;  /* DIR.partial; NULL while closed */
    int lock_fd; /* 0: closed */
    enum run_folder_mode mode;
};

enum run_folder_state {
    RUN_FOLDER_READY,    /* work folder open, go on */
    RUN_FOLDER_FINISHED, /* DIR is a finished run of the same fingerprint: nothing to do */
};

/*
 * STATUS_CONFLICT: another process works on it (its pid is named), or DIR or DIR.partial belong to
 * other inputs or another recipe, or DIR is not a run folder at all (never replaced, unless empty).
 */
MUST_CHECK
enum status run_folder_open(struct run_folder *folder, enum run_folder_state *state,
                            const char *path, struct hash128 fingerprint, enum run_folder_mode mode,
                            struct error *err);

/*
 * Rename the work folder into place, without its stages. The folder is closed then.
 * STATUS_CONFLICT: something else has come to stand there; the finished run stays in the work
 * folder.
 */
MUST_CHECK
enum status run_folder_finish(struct run_folder *folder, struct error *err);

enum run_folder_end {
    RUN_FOLDER_INTERRUPTED,
    RUN_FOLDER_FAILED,
};

/* Give up the lock; a work folder without a finished stage is removed, else kept. */
void run_folder_close(struct run_folder *folder, enum run_folder_end end);

/* "WORK/name" and "WORK/.stages/name", to be freed with mem_free; NULL when memory is short. */
char *run_folder_file(const struct run_folder *folder, const char *name);
char *run_folder_stage(const struct run_folder *folder, const char *name);

/*
 * A stage is finished once it is marked, which comes after its results are written. `key` says what
 * the results depend on; a mark with another key is as good as none.
 */
bool run_folder_has_stage(const struct run_folder *folder, const char *name, struct hash128 key);
MUST_CHECK
enum status run_folder_mark_stage(const struct run_folder *folder, const char *name,
                                  struct hash128 key, struct error *err);

/* The result of a stage, file `name`, becomes part of the run folder. */
MUST_CHECK
enum status run_folder_publish(const struct run_folder *folder, const char *name,
                               struct error *err);

#endif
