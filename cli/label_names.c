#include "cli/label_names.h"

#include <string.h>

#define LABEL_WIDTH 100

enum status label_names_open(struct label_names *names, const char *path,
                             const struct label_target *target, const struct log *log,
                             struct error *err)
{
    struct text warnings = {0};
    enum status st;

    *names = (struct label_names){0};
    if (!path)
        return STATUS_OK;
    st = label_table_open(&names->table, path, err);
    if (!st)
        st = label_table_check(&names->table, target, &warnings, err);
    if (!st)
        log_lines(log, LOG_WARNING, "labels", text_string(&warnings));
    else
        label_names_close(names);
    text_release(&warnings);
    return st;
}

void label_names_close(struct label_names *names)
{
    label_table_close(&names->table);
}

enum status label_names_append(const struct label_names *names, size_t latent, struct text *out,
                               struct error *err)
{
    struct text label = {0};
    enum status st = STATUS_OK;

    if (names->table.map)
        st = label_table_find(&names->table, latent, &label, err);
    if (!st)
        st = text_check(&label, err);
    if (!st && label.length) {
        text_append(out, "  ");
        text_append_visible(out, label.data, label.length, LABEL_WIDTH);
    }
    text_release(&label);
    return st;
}

enum status label_names_append_json(const struct label_names *names, size_t latent,
                                    struct text *out, struct error *err)
{
    text_append(out, ",\"label\":");
    return label_table_find_json(names->table.map ? &names->table : NULL, latent, out, err);
}

static void append_member(struct text *out, const char *key, const char *value)
{
    text_appendf(out, ",\"%s\":", key);
    if (value)
        text_append_json_string(out, value, strlen(value));
    else
        text_append(out, "null");
}

static void describe_json(const struct label_counts *counts, const struct label_origin *origin,
                          size_t d_sae, struct text *out)
{
    text_appendf(out, ",\"labels\":%zu,\"empty\":%zu,\"latents\":%zu,\"several\":%zu",
                 counts->labels, counts->empty, counts->latents, counts->several);
    if (counts->labels)
        text_appendf(out, ",\"largest\":%zu", counts->largest);
    else
        text_append(out, ",\"largest\":null");
    if (d_sae)
        text_appendf(out, ",\"d_sae\":%zu", d_sae);
    else
        text_append(out, ",\"d_sae\":null");
    append_member(out, "layout", origin->layout);
    append_member(out, "model", origin->model);
    append_member(out, "source", origin->source);
    append_member(out, "hook", origin->hook);
    append_member(out, "release", origin->release);
    append_member(out, "sae_id", origin->sae_id);
    append_member(out, "sae_hash", origin->sae_hash);
}

/* These come from files, too. */
static void append_fact(struct text *out, const char *name, const char *value)
{
    if (!value)
        return;
    text_appendf(out, "  %-11s ", name);
    text_append_visible(out, value, strlen(value), LABEL_WIDTH);
    text_append_char(out, '\n');
}

void label_names_describe(const struct label_counts *counts, const struct label_origin *origin,
                          size_t d_sae, int json, struct text *out)
{
    if (json) {
        describe_json(counts, origin, d_sae, out);
        return;
    }
    text_appendf(out, "  %-11s %zu for %zu latents (empty: %zu; latents with several: %zu)\n",
                 "labels", counts->labels, counts->latents, counts->empty, counts->several);
    if (d_sae)
        text_appendf(out, "  %-11s %zu\n", "d_sae", d_sae);
    else
        text_appendf(out, "  %-11s not known, the largest latent is %zu\n", "d_sae",
                     counts->largest);
    append_fact(out, "layout", origin->layout);
    append_fact(out, "model", origin->model);
    append_fact(out, "source", origin->source);
    append_fact(out, "hook", origin->hook);
    append_fact(out, "release", origin->release);
    append_fact(out, "SAE", origin->sae_id);
    append_fact(out, "SAE hash", origin->sae_hash);
}
