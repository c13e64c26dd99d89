#include "sae/sae_config.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "sae/sae_find.h"

#define CONFIG_BYTES_MAX ((size_t)16 << 20)

static enum status refuse_missing(const struct sae_files *files, const char *name,
                                  struct error *err)
{
    struct text list = {0};
    enum status st;

    sae_find_list(files->folder, &list);
    st = error_set(err, STATUS_FORMAT,
                   "%s is missing beside %s; there are %s; it comes from the same folder and says "
                   "what tensors cannot",
                   name, files->name, text_string(&list));
    text_release(&list);
    return st;
}

enum status sae_config_open(struct sae_config *config, const struct sae_files *files,
                            const char *name, struct error *err)
{
    const struct json_options options = {.allow_nan = true};
    struct text path = {0};
    enum status st;

    *config = (struct sae_config){.name = name};
    if (!sae_files_beside(files, name))
        return refuse_missing(files, name, err);
    text_appendf(&path, "%s/%s", files->folder, name);
    st = text_check(&path, err);
    if (st)
        goto out;
    st = json_parse_file(&config->root, text_string(&path), CONFIG_BYTES_MAX, &options, err);
    if (st)
        goto out;
    if (json_type(config->root) != JSON_OBJECT)
        st = error_set(err, STATUS_FORMAT, "%s: %s, expected an object", name,
                       json_type_name(json_type(config->root)));
out:
    text_release(&path);
    if (st)
        sae_config_close(config);
    return st;
}

void sae_config_close(struct sae_config *config)
{
    json_free(config->root);
    *config = (struct sae_config){0};
}

const struct json *sae_config_member(const struct json *object, const char *key)
{
    const struct json *member = json_type(object) == JSON_OBJECT ? json_member(object, key) : NULL;

    return json_type(member) == JSON_NULL ? NULL : member;
}

static enum status wrong_type(const struct sae_config *config, const char *key,
                              const struct json *node, const char *expected, struct error *err)
{
    return error_set(err, STATUS_FORMAT, "%s: %s: %s, expected %s", config->name, key,
                     json_type_name(json_type(node)), expected);
}

enum status sae_config_number(const struct sae_config *config, const struct json *object,
                              const char *key, double *number, struct error *err)
{
    const struct json *node = sae_config_member(object, key);

    *number = NAN;
    if (!node)
        return STATUS_OK;
    if (json_type(node) != JSON_INTEGER && json_type(node) != JSON_NUMBER)
        return wrong_type(config, key, node, "a number", err);
    *number = json_double(node);
    if (!isfinite(*number))
        return error_set(err, STATUS_FORMAT, "%s: %s: %g, expected a finite number", config->name,
                         key, *number);
    return STATUS_OK;
}

enum status sae_config_size(const struct sae_config *config, const struct json *object,
                            const char *key, size_t *size, struct error *err)
{
    double number;
    enum status st;

    *size = 0;
    st = sae_config_number(config, object, key, &number, err);
    if (st || isnan(number))
        return st;
    /* The bound is far above any SAE and far below where doubles stop counting. */
    if (number < 0 || number > 0x1p48 || number != floor(number))
        return error_set(err, STATUS_FORMAT, "%s: %s: %g, expected a count", config->name, key,
                         number);
    *size = (size_t)number;
    return STATUS_OK;
}

enum status sae_config_flag(const struct sae_config *config, const struct json *object,
                            const char *key, bool fallback, bool *flag, struct error *err)
{
    const struct json *node = sae_config_member(object, key);

    *flag = fallback;
    if (!node)
        return STATUS_OK;
    if (json_type(node) != JSON_BOOL)
        return wrong_type(config, key, node, "true or false", err);
    *flag = json_bool(node);
    return STATUS_OK;
}

enum status sae_config_string(const struct sae_config *config, const struct json *object,
                              const char *key, const char **string, struct error *err)
{
    const struct json *node = sae_config_member(object, key);
    size_t n;

    *string = NULL;
    if (!node)
        return STATUS_OK;
    *string = json_string(node, &n);
    if (!*string)
        return wrong_type(config, key, node, "a string", err);
    if (strlen(*string) != n) {
        *string = NULL;
        return error_set(err, STATUS_FORMAT, "%s: %s: a string with a zero byte", config->name,
                         key);
    }
    return STATUS_OK;
}

enum status sae_config_copy(const struct json *object, const char *const *keys, size_t n,
                            char **string, struct error *err)
{
    *string = NULL;
    for (size_t i = 0; i < n && !*string; i++) {
        size_t length;
        const char *value = json_string(sae_config_member(object, keys[i]), &length);

        if (!value)
            continue;
        *string = mem_strndup(value, length);
        if (!*string)
            return error_nomem(err);
    }
    return STATUS_OK;
}
