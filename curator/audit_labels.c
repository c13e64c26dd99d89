#include "curator/audit_labels.h"

#include <string.h>

#include "formats/json.h"

static enum status append_densest(const struct json *densest, const struct label_table *labels,
                                  struct text *out, struct error *err)
{
    enum status st = STATUS_OK;

    text_append_char(out, '[');
    for (size_t i = 0; !st && i < json_length(densest); i++) {
        const struct json *entry = json_element(densest, i);
        uint64_t latent;

        text_append(out, i ? ",{" : "{");
        for (struct json_iterator it = json_iterate(entry); json_next(&it);) {
            text_append_json_string(out, it.key, it.key_length);
            text_append_char(out, ':');
            json_print(it.value, out);
            text_append_char(out, ',');
        }
        text_append(out, "\"label\":");
        if (json_u64(json_member(entry, "latent"), &latent))
            st = label_table_find_json(labels, latent, out, err);
        else
            text_append(out, "null");
        text_append_char(out, '}');
    }
    text_append_char(out, ']');
    return st;
}

enum status audit_add_labels(const char *members, const struct label_table *labels,
                             struct text *out, struct error *err)
{
    struct text object = {0};
    struct json *root = NULL;
    const char *comma = "";
    enum status st;

    text_appendf(&object, "{%s}", members);
    st = text_check(&object, err);
    if (!st)
        st = json_parse(&root, object.data, object.length, NULL, err);
    for (struct json_iterator it = json_iterate(root); !st && json_next(&it);) {
        text_append(out, comma);
        text_append_json_string(out, it.key, it.key_length);
        text_append_char(out, ':');
        if (strcmp(it.key, "densest") == 0)
            st = append_densest(it.value, labels, out, err);
        else
            json_print(it.value, out);
        comma = ",";
    }
    json_free(root);
    text_release(&object);
    return st;
}
