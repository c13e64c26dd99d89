/*
 * curator/run_stage.c - a stage is taken over from an interrupted run, or done and kept.
 */
#include "curator/run.h"

enum status run_keep(struct run *run, const struct kept_stage *stage, void *context,
                     struct error *err)
{
    enum status st;

    if (run->folder && run_folder_has_stage(run->folder, stage->name, stage->key) &&
        (!stage->usable || stage->usable(run))) {
        run->times[run->n_times].resumed = true;
        return stage->load(run, context, err);
    }
    st = stage->compute(run, context, err);
    if (st || !run->folder)
        return st;
    st = stage->save(run, context, err);
    return st ? st : run_folder_mark_stage(run->folder, stage->name, stage->key, err);
}
