/*
 * curator/audit_texts.c - the prompts of a data set, measured once for all sections.
 */
#include "base/mem.h"
#include "curator/audit.h"

/* Rows measured by one worker at a time: some hundred kilobytes of text. */
#define TEXTS_RANGE 1024

static enum status measure_range(void *context, unsigned worker, size_t begin, size_t end,
                                 struct error *err)
{
    struct audit *audit = context;
    const struct dataset *data = &audit->run->data;

    (void)worker;
    (void)err;
    for (size_t row = begin; row < end; row++) {
        const struct sample *s = &data->samples[row];
        struct text_measure m;

        audit->texts[row] = (struct audit_text){0};
        if (s->problem.length)
            continue;
        text_measure(&m, dataset_bytes(data, s->prompt), s->prompt.length);
        /* A line has at most JSONL_LINE_MAX bytes. */
        audit->texts[row] = (struct audit_text){.words = (uint32_t)m.words,
                                                .characters = (uint32_t)m.characters,
                                                .garbage = (float)m.garbage,
                                                .oddity = (unsigned char)m.oddity,
                                                .empty = m.empty};
    }
    return STATUS_OK;
}

enum status audit_measure_texts(struct audit *audit, struct error *err)
{
    mem_free(audit->texts);
    audit->texts = mem_alloc(audit->run->data.n, sizeof(*audit->texts));
    if (!audit->texts)
        return error_nomem(err);
    return workers_run(audit->run->workers, audit->run->data.n, TEXTS_RANGE, measure_range, audit,
                       err);
}
