#include "curator/dataset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/field_path.h"
#include "formats/json.h"
#include "formats/jsonl.h"

/* Malformed rows told one by one; beyond it is a matter of how many. */
#define MALFORMED_TOLD 20

struct fields {
    struct field_path id, prompt, answer, quality, difficulty, rewards, source;
};

static void fields_release(struct fields *f)
{
    field_path_release(&f->id);
    field_path_release(&f->prompt);
    field_path_release(&f->answer);
    field_path_release(&f->quality);
    field_path_release(&f->difficulty);
    field_path_release(&f->rewards);
    field_path_release(&f->source);
}

static enum status fields_init(struct fields *f, const struct recipe *recipe, struct error *err)
{
    const struct {
        struct field_path *path;
        const char *dotted, *key;
    } all[] = {
        {&f->id, recipe->input.fields.id, "id"},
        {&f->prompt, recipe->input.fields.prompt, "prompt"},
        {&f->answer, recipe->input.fields.answer, "answer"},
        {&f->quality, recipe->input.fields.quality, "quality"},
        {&f->difficulty, recipe->input.fields.difficulty, "difficulty"},
        {&f->rewards, recipe->input.fields.rewards, "rewards"},
        {&f->source, recipe->input.fields.source, "source"},
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        enum status st = field_path_init(all[i].path, all[i].dotted, err);

        if (st) {
            fields_release(f);
            return error_wrap(err, st, "input.fields.%s", all[i].key);
        }
    }
    return STATUS_OK;
}

static struct span append_span(struct text *text, const char *bytes, size_t n)
{
    struct span span = {text->length, n};

    text_append_n(text, bytes, n);
    return span;
}

const char *dataset_bytes(const struct dataset *data, struct span span)
{
    return text_string(&data->text) + span.begin;
}

void dataset_release(struct dataset *data)
{
    mem_free(data->samples);
    text_release(&data->text);
    *data = (struct dataset){0};
}

/* A chat message's content: a string, a list of parts, or null. */
static enum status append_content(struct text *out, const struct json *content, size_t message,
                                  struct error *err)
{
    size_t n;
    const char *s;

    switch (json_type(content)) {
    case JSON_NULL:
        return STATUS_OK;
    case JSON_STRING:
        s = json_string(content, &n);
        text_append_n(out, s, n);
        return STATUS_OK;
    case JSON_ARRAY:
        for (size_t i = 0; i < json_length(content); i++) {
            const struct json *part = json_element(content, i);

            if (json_type(part) == JSON_OBJECT &&
                json_type(json_member(part, "text")) == JSON_STRING)
                part = json_member(part, "text");
            s = json_string(part, &n);
            if (s)
                text_append_n(out, s, n);
            else
                json_print(part, out);
        }
        return STATUS_OK;
    default:
        return error_set(err, STATUS_FORMAT,
                         "prompt: message %zu: content is %s, expected a string, a list or null",
                         message, json_type_name(json_type(content)));
    }
}

static enum status append_prompt(struct text *out, const struct json *prompt, struct error *err)
{
    size_t n;
    const char *s = json_string(prompt, &n);

    if (s) {
        text_append_n(out, s, n);
        return STATUS_OK;
    }
    if (json_type(prompt) != JSON_ARRAY)
        return error_set(err, STATUS_FORMAT,
                         "prompt: found %s, expected a string or a list of chat messages",
                         prompt ? json_type_name(json_type(prompt)) : "nothing");
    for (size_t i = 0; i < json_length(prompt); i++) {
        const struct json *message = json_element(prompt, i);
        enum status st;

        s = json_string(json_member(message, "role"), &n);
        if (json_type(message) != JSON_OBJECT || !s)
            return error_set(err, STATUS_FORMAT,
                             "prompt: message %zu is not an object with a string 'role'", i);
        text_append_n(out, s, n);
        text_append_char(out, '\x1f');
        st = append_content(out, json_member(message, "content"), i, err);
        if (st)
            return st;
        text_append_char(out, '\x1e');
    }
    return STATUS_OK;
}

double dataset_only_number(const char *s, size_t n)
{
    double found = NAN;
    size_t i = 0;

    while (i < n) {
        char buffer[64];
        size_t length = 0;
        char *end;

        if (s[i] < '0' || s[i] > '9') {
            i++;
            continue;
        }
        if (!isnan(found))
            return NAN;
        /* Take the sign and a leading ".": "-1.5", ".5". */
        if (i > 0 && s[i - 1] == '.')
            buffer[length++] = '.';
        if (i > length && s[i - 1 - length] == '-') {
            memmove(buffer + 1, buffer, length);
            buffer[0] = '-';
            length++;
        }
        while (i < n && length < sizeof(buffer) - 1 && s[i] && strchr("0123456789.eE+-", s[i]))
            buffer[length++] = s[i++];
        buffer[length] = '\0';
        found = strtod(buffer, &end);
        if (*end && strcmp(end, ".") != 0)
            return NAN;
    }
    return found;
}

/* A number, a bool, or a string with one number in it. NaN: unlabelled. */
static enum status read_label(double *label, size_t *without_number, const struct json *node,
                              const char *field, struct error *err)
{
    size_t n;
    const char *s;

    *label = NAN;
    switch (json_type(node)) {
    case JSON_NULL:
        return STATUS_OK;
    case JSON_BOOL:
        *label = json_bool(node);
        return STATUS_OK;
    case JSON_INTEGER:
    case JSON_NUMBER:
        *label = json_double(node);
        return STATUS_OK;
    case JSON_STRING:
        s = json_string(node, &n);
        *label = dataset_only_number(s, n);
        if (!isfinite(*label)) {
            *label = NAN;
            (*without_number)++;
        }
        return STATUS_OK;
    default:
        return error_set(err, STATUS_FORMAT, "%s: found %s, expected a number or a bool", field,
                         json_type_name(json_type(node)));
    }
}

static enum status read_rewards(struct dataset *data, struct sample *sample,
                                const struct json *node, struct error *err)
{
    double sum = 0, low = INFINITY, high = -INFINITY;
    size_t n = json_length(node);

    if (!node)
        return STATUS_OK;
    if (json_type(node) != JSON_ARRAY)
        return error_set(err, STATUS_FORMAT, "rewards: found %s, expected a list of numbers",
                         json_type_name(json_type(node)));
    for (size_t i = 0; i < n; i++) {
        const struct json *reward = json_element(node, i);
        double r = json_type(reward) == JSON_BOOL ? json_bool(reward) : json_double(reward);

        if (!isfinite(r))
            return error_set(err, STATUS_FORMAT, "rewards: element %zu is %s, expected a number", i,
                             json_type_name(json_type(reward)));
        sum += r;
        low = fmin(low, r);
        high = fmax(high, r);
    }
    if (!isfinite(sum))
        return error_set(err, STATUS_FORMAT, "rewards: their sum is not finite");
    if (n == 0)
        return STATUS_OK;
    sample->pass_rate = sum / (double)n;
    sample->n_rewards = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
    sample->rewards_equal = low == high;
    sample->difficulty = 1 - sample->pass_rate;
    sample->difficulty_from_rewards = true;
    data->reward_min = fmin(data->reward_min, low);
    data->reward_max = fmax(data->reward_max, high);
    return STATUS_OK;
}

static double map_difficulty(double d, const struct recipe *recipe)
{
    const double *range = recipe->input.difficulty_scale.range.items;
    double mapped = (d - range[0]) / (range[1] - range[0]);

    return recipe->input.difficulty_scale.higher_is == SCALE_EASIER ? 1 - mapped : mapped;
}

static enum status read_id(struct span *id, struct text *text, const struct json *node,
                           struct error *err)
{
    size_t begin = text->length;

    if (!node)
        return STATUS_OK;
    if (json_type(node) != JSON_STRING && json_type(node) != JSON_INTEGER &&
        json_type(node) != JSON_NUMBER)
        return error_set(err, STATUS_FORMAT, "id: found %s, expected a string or a number",
                         json_type_name(json_type(node)));
    json_print(node, text);
    *id = (struct span){begin, text->length - begin};
    return STATUS_OK;
}

static enum status read_prompt(struct span *prompt, struct text *text, const struct json *node,
                               const char *field, struct error *err)
{
    size_t begin = text->length;
    enum status st;

    if (!node)
        return error_set(err, STATUS_FORMAT, "prompt: field '%s' is missing", field ? field : "");
    st = append_prompt(text, node, err);
    *prompt = (struct span){begin, text->length - begin};
    return st;
}

static enum status read_answer(struct sample *sample, const struct json *node, struct error *err)
{
    struct text answer = {0};
    enum status st;

    if (!node)
        return STATUS_OK;
    json_print(node, &answer);
    st = text_check(&answer, err);
    sample->answer_hash = hash128(text_string(&answer), answer.length);
    sample->has_answer = true;
    text_release(&answer);
    return st;
}

/* The text of a string, the JSON of anything else. */
static void read_source(struct span *source, struct text *text, const struct json *node)
{
    size_t begin = text->length, n;
    const char *s = json_string(node, &n);

    if (s)
        text_append_n(text, s, n);
    else if (node)
        json_print(node, text);
    *source = (struct span){begin, text->length - begin};
}

/* A difficulty column, where there is one, goes before rewards; what these say is kept beside it.
 */
static enum status read_difficulty(struct dataset *data, struct sample *sample,
                                   const struct json *rewards, const struct json *column,
                                   const struct recipe *recipe, struct error *err)
{
    double raw = NAN;
    enum status st = read_rewards(data, sample, rewards, err);

    if (!st)
        st = read_label(&raw, &data->n_labels_without_number, column, "difficulty", err);
    if (st || isnan(raw))
        return st;
    sample->difficulty = map_difficulty(raw, recipe);
    sample->difficulty_from_rewards = false;
    data->difficulty_min = fmin(data->difficulty_min, raw);
    data->difficulty_max = fmax(data->difficulty_max, raw);
    return STATUS_OK;
}

static enum status read_fields(struct dataset *data, struct sample *sample,
                               const struct fields *fields, const struct json *row,
                               const struct recipe *recipe, struct error *err)
{
    struct text *text = &data->text;
    enum status st;

    if (json_type(row) != JSON_OBJECT)
        return error_set(err, STATUS_FORMAT, "found %s, expected an object",
                         json_type_name(json_type(row)));
    st = read_id(&sample->id, text, field_path_find(&fields->id, row), err);
    if (!st)
        st = read_prompt(&sample->prompt, text, field_path_find(&fields->prompt, row),
                         recipe->input.fields.prompt, err);
    if (!st)
        st = read_answer(sample, field_path_find(&fields->answer, row), err);
    if (st)
        return st;
    read_source(&sample->source, text, field_path_find(&fields->source, row));
    st = read_label(&sample->quality, &data->n_labels_without_number,
                    field_path_find(&fields->quality, row), "quality", err);
    if (!st)
        st = read_difficulty(data, sample, field_path_find(&fields->rewards, row),
                             field_path_find(&fields->difficulty, row), recipe, err);
    return st;
}

static enum status parse_line(struct dataset *data, struct sample *sample,
                              const struct fields *fields, const struct jsonl_line *line,
                              const struct recipe *recipe, struct error *err)
{
    struct json *row = NULL;
    enum status st;

    if (line->length == 0)
        return error_set(err, STATUS_FORMAT, "the line is empty");
    st = jsonl_parse(&row, line, err);
    if (!st)
        st = read_fields(data, sample, fields, row, recipe, err);
    json_free(row);
    return st;
}

/* The id of a sample that has none. */
static struct span append_key(struct text *text, uint64_t key)
{
    char hex[19];

    snprintf(hex, sizeof(hex), "\"%016llx\"", (unsigned long long)key);
    return append_span(text, hex, 18);
}

/* What went wrong in one row stays with it; the row keeps its number and, where known, its id. */
static void mark_malformed(struct dataset *data, struct sample *sample, const struct error *problem)
{
    sample->problem = append_span(&data->text, problem->message, strlen(problem->message));
    sample->prompt = (struct span){0};
    sample->quality = NAN;
    sample->difficulty = NAN;
    sample->pass_rate = NAN;
    sample->n_rewards = 0;
    sample->rewards_equal = false;
    sample->difficulty_from_rewards = false;
    sample->has_answer = false;
    data->n_malformed++;
}

static enum status too_many_bad(const struct dataset *data, const struct recipe *recipe,
                                const char *where, const struct error *problem, struct error *err)
{
    return error_set(err, STATUS_BAD_ROWS,
                     "%s: %s (%zu malformed row%s, on_error.max_bad allows %llu)", where,
                     problem->message, data->n_malformed, data->n_malformed == 1 ? "" : "s",
                     (unsigned long long)recipe->on_error.max_bad);
}

static enum status read_line(struct dataset *data, const struct fields *fields,
                             const struct jsonl_line *line, const struct recipe *recipe,
                             const struct log *log, struct error *first_beyond, struct error *err)
{
    struct error problem = {0};
    struct sample *sample;
    void *samples = data->samples;
    enum status st;

    if (!mem_grow(&samples, &data->samples_capacity, data->n + 1, sizeof(*data->samples)))
        return error_nomem(err);
    data->samples = samples;
    sample = &data->samples[data->n++];
    *sample = (struct sample){.quality = NAN, .difficulty = NAN, .pass_rate = NAN};
    if (!line->too_long)
        sample->line = append_span(&data->text, line->bytes, line->length);

    st = parse_line(data, sample, fields, line, recipe, &problem);
    if (st == STATUS_NOMEM)
        return error_nomem(err);
    if (st) {
        char where[300];

        mark_malformed(data, sample, &problem);
        snprintf(where, sizeof(where), "%s:%llu: row %llu", line->path,
                 (unsigned long long)line->line, (unsigned long long)line->row);
        if (data->n_malformed <= MALFORMED_TOLD)
            log_event(log, LOG_WARNING, "malformed", "%s: %s", where, problem.message);
        if (data->n_malformed > recipe->on_error.max_bad && !first_beyond->message[0]) {
            too_many_bad(data, recipe, where, &problem, first_beyond);
            if (recipe->on_error.action == ON_ERROR_FAIL)
                return too_many_bad(data, recipe, where, &problem, err);
        }
    } else {
        const char *prompt = dataset_bytes(data, sample->prompt);

        sample->key = hash64(prompt, sample->prompt.length, 0);
        sample->prompt_hash = hash128(prompt, sample->prompt.length);
        if (sample->id.length)
            data->n_id++;
        if (sample->has_answer)
            data->n_answer++;
        if (sample->source.length)
            data->n_source++;
        if (sample->difficulty < 0 || sample->difficulty > 1)
            data->n_difficulty_outside++;
        if (sample->id.length == 0)
            sample->id = append_key(&data->text, sample->key);
        if (!isnan(sample->quality))
            data->n_quality++;
        if (!isnan(sample->difficulty))
            data->n_difficulty++;
        if (sample->n_rewards)
            data->n_rewards++;
    }
    return text_check(&data->text, err);
}

/* qsort has no context argument: carry the hash along with the row. */
struct keyed_row {
    struct hash128 hash;
    size_t row;
};

static int compare_keyed(const void *a, const void *b)
{
    const struct keyed_row *x = a, *y = b;

    if (x->hash.high != y->hash.high)
        return x->hash.high < y->hash.high ? -1 : 1;
    if (x->hash.low != y->hash.low)
        return x->hash.low < y->hash.low ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

enum status dataset_sort_by_prompt(const struct dataset *data, size_t *rows, size_t n,
                                   struct error *err)
{
    struct keyed_row *keyed = mem_alloc(n, sizeof(*keyed));

    if (!keyed)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++)
        keyed[i] = (struct keyed_row){data->samples[rows[i]].prompt_hash, rows[i]};
    if (n > 0)
        qsort(keyed, n, sizeof(*keyed), compare_keyed);
    for (size_t i = 0; i < n; i++)
        rows[i] = keyed[i].row;
    mem_free(keyed);
    return STATUS_OK;
}

static int compare_entries(const void *a, const void *b)
{
    const struct dataset_index_entry *x = a, *y = b;

    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

enum status dataset_index_make(struct dataset_index *index, const struct dataset *data,
                               struct error *err)
{
    *index = (struct dataset_index){0};
    index->entries = mem_alloc(data->n, sizeof(*index->entries));
    if (!index->entries)
        return error_nomem(err);
    for (size_t row = 0; row < data->n; row++) {
        struct span id = data->samples[row].id;

        if (id.length == 0 || data->samples[row].problem.length)
            continue;
        index->entries[index->n++] = (struct dataset_index_entry){
            .hash = hash64(dataset_bytes(data, id), id.length, 0), .row = row};
    }
    qsort(index->entries, index->n, sizeof(*index->entries), compare_entries);
    return STATUS_OK;
}

void dataset_index_release(struct dataset_index *index)
{
    mem_free(index->entries);
    *index = (struct dataset_index){0};
}

static bool same_id(const struct dataset *data, size_t row, const char *id, size_t length)
{
    struct span span = data->samples[row].id;

    return span.length == length && memcmp(dataset_bytes(data, span), id, length) == 0;
}

size_t dataset_index_find(const struct dataset_index *index, const struct dataset *data,
                          const char *id, size_t length)
{
    uint64_t hash = hash64(id, length, 0);
    size_t low = 0, high = index->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (index->entries[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < index->n && index->entries[low].hash == hash; low++) {
        if (same_id(data, index->entries[low].row, id, length))
            return index->entries[low].row;
    }
    return NO_ROW;
}

/* Ids that are keys repeat with their prompts. */
enum status dataset_check_ids(const struct dataset *data, struct error *err)
{
    struct dataset_index index;
    enum status st = dataset_index_make(&index, data, err);

    for (size_t i = 0; !st && i < index.n; i++) {
        size_t row = index.entries[i].row;
        struct span id = data->samples[row].id;

        for (size_t j = i + 1; j < index.n && index.entries[j].hash == index.entries[i].hash; j++) {
            size_t other = index.entries[j].row;

            if (!same_id(data, other, dataset_bytes(data, id), id.length))
                continue;
            if (data->samples[row].key == data->samples[other].key) {
                char hex[19];

                snprintf(hex, sizeof(hex), "\"%016llx\"",
                         (unsigned long long)data->samples[row].key);
                if (id.length == 18 && memcmp(hex, dataset_bytes(data, id), 18) == 0)
                    break;
            }
            st = error_set(err, STATUS_FORMAT, "row %zu: id %.*s repeats that of row %zu", other,
                           (int)(id.length < 100 ? id.length : 100), dataset_bytes(data, id), row);
            break;
        }
    }
    dataset_index_release(&index);
    return st;
}

enum status dataset_forget_ids(struct dataset *data, struct error *err)
{
    for (size_t row = 0; row < data->n; row++) {
        struct sample *sample = &data->samples[row];

        if (sample->problem.length)
            sample->id = (struct span){0};
        else
            sample->id = append_key(&data->text, sample->key);
    }
    data->n_id = 0;
    data->ids_repeat = true;
    return text_check(&data->text, err);
}

/* A path that leads nowhere in any row is a slip of the pen far more often than it is meant. */
static void warn_field(const struct log *log, const char *key, const char *path, size_t found)
{
    if (path && found == 0)
        log_event(
            log, LOG_WARNING, "fields",
            "input.fields.%s: no row has '%s' (a name that holds dots needs quotes: a.\"b.c\")",
            key, path);
}

static void warn_fields(const struct dataset *data, const struct recipe *recipe,
                        const struct log *log)
{
    /* "id" is the default: data without ids is common and goes by keys. */
    const char *id = recipe->input.fields.id;

    /* Of rows that could not be read nobody knows what they have. */
    if (data->n_malformed == data->n)
        return;
    warn_field(log, "id", id && strcmp(id, "id") != 0 ? id : NULL, data->n_id);
    warn_field(log, "answer", recipe->input.fields.answer, data->n_answer);
    warn_field(log, "source", recipe->input.fields.source, data->n_source);
    warn_field(log, "quality", recipe->input.fields.quality, data->n_quality);
    warn_field(log, "difficulty", recipe->input.fields.difficulty,
               isfinite(data->difficulty_min) ? data->n_difficulty : 0);
    warn_field(log, "rewards", recipe->input.fields.rewards, data->n_rewards);
}

static void say_oddities(const struct dataset *data, const struct recipe *recipe,
                         const struct log *log)
{
    const double *range = recipe->input.difficulty_scale.range.items;

    warn_fields(data, recipe, log);
    if (data->n_malformed > MALFORMED_TOLD)
        log_event(log, LOG_WARNING, "malformed", "%zu more rows are malformed",
                  data->n_malformed - MALFORMED_TOLD);
    if (data->n_labels_without_number)
        log_event(log, LOG_WARNING, "labels",
                  "%zu labels are texts without one number in them and count as unlabelled",
                  data->n_labels_without_number);
    if (data->difficulty_min < fmin(range[0], range[1]) ||
        data->difficulty_max > fmax(range[0], range[1]))
        log_event(log, LOG_WARNING, "difficulty",
                  "difficulty labels lie in [%g, %g], input.difficulty_scale.range says [%g, %g]: "
                  "they are mapped by that range and leave [0, 1]",
                  data->difficulty_min, data->difficulty_max, range[0], range[1]);
    else if (data->n_difficulty_outside)
        log_event(log, LOG_WARNING, "rewards",
                  "%zu rows have a mean reward outside [0, 1]: so is their difficulty, 1 - mean",
                  data->n_difficulty_outside);
}

enum status dataset_read_rows(struct dataset *data, const struct recipe *recipe,
                              const struct log *log, struct error *err)
{
    const struct string_list *paths = &recipe->input.data;
    uint64_t limit = recipe->input.limit ? recipe->input.limit : UINT64_MAX;
    struct jsonl_reader *reader = NULL;
    struct error first_beyond = {0};
    struct fields fields = {0};
    struct jsonl_line line;
    bool end = false;
    enum status st;

    *data = (struct dataset){.difficulty_min = INFINITY,
                             .difficulty_max = -INFINITY,
                             .reward_min = INFINITY,
                             .reward_max = -INFINITY};
    st = fields_init(&fields, recipe, err);
    if (!st)
        st = jsonl_open(&reader, (const char *const *)paths->items, paths->n, err);
    while (!st) {
        st = jsonl_next(reader, &line, &end, err);
        if (st || end)
            break;
        data->rows_total++;
        if (data->n < limit)
            st = read_line(data, &fields, &line, recipe, log, &first_beyond, err);
    }
    if (!st && first_beyond.message[0]) {
        if (err)
            *err = first_beyond;
        st = STATUS_BAD_ROWS;
    }
    if (!st && data->n == 0)
        st =
            error_set(err, STATUS_FORMAT, "%s: no rows", paths->n ? paths->items[0] : "input.data");
    if (!st)
        say_oddities(data, recipe, log);
    jsonl_close(reader);
    fields_release(&fields);
    if (st)
        dataset_release(data);
    return st;
}

enum status dataset_read(struct dataset *data, const struct recipe *recipe, const struct log *log,
                         struct error *err)
{
    enum status st = dataset_read_rows(data, recipe, log, err);

    if (!st)
        st = dataset_check_ids(data, err);
    if (st)
        dataset_release(data);
    return st;
}
