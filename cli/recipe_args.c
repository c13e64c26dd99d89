#include "cli/recipe_args.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

enum status recipe_args_init(struct recipe_args *args, int argc, struct error *err)
{
    *args = (struct recipe_args){0};
    args->set.items = mem_alloc((size_t)argc + 1, sizeof(*args->set.items));
    return args->set.items ? STATUS_OK : error_nomem(err);
}

void recipe_args_release(struct recipe_args *args)
{
    mem_free(args->set.items);
    *args = (struct recipe_args){0};
}

void recipe_args_flag(struct recipe_args *args, const char *key, const char *value,
                      const char *flag)
{
    if (!value)
        return;
    assert(args->n_flags < RECIPE_FLAGS_MAX);
    args->flags[args->n_flags].key = key;
    args->flags[args->n_flags].value = value;
    args->flags[args->n_flags].flag = flag;
    args->n_flags++;
}

enum status recipe_args_load(struct recipe *recipe, const char *path,
                             const struct recipe_args *args, struct error *err)
{
    size_t n = args->set.n;
    struct recipe_override *overrides = mem_alloc(n + args->n_flags, sizeof(*overrides));
    char **storage = mem_zalloc(n, sizeof(*storage));
    enum status st;

    *recipe = (struct recipe){0};
    if (!overrides || !storage) {
        st = error_nomem(err);
        goto out;
    }
    st = options_overrides(overrides, storage, &args->set, err);
    if (st)
        goto out;
    for (size_t i = 0; i < args->n_flags; i++) {
        overrides[n + i] =
            (struct recipe_override){args->flags[i].key, args->flags[i].value, args->flags[i].flag};
    }
    st = recipe_load(recipe, path, environ, overrides, n + args->n_flags, err);
out:
    for (size_t i = 0; storage && i < n; i++)
        mem_free(storage[i]);
    mem_free(storage);
    mem_free(overrides);
    return st;
}

enum status recipe_args_restrict(const struct recipe_args *args, const char *const *prefixes,
                                 struct error *err)
{
    for (size_t i = 0; i < args->set.n; i++) {
        bool fits = false;

        for (size_t j = 0; !fits && prefixes[j]; j++)
            fits = strncmp(args->set.items[i], prefixes[j], strlen(prefixes[j])) == 0;
        if (!fits)
            return error_set(err, STATUS_INVALID,
                             "--set %s: has no effect here, expected a key that begins with '%s'",
                             args->set.items[i], prefixes[0]);
    }
    return STATUS_OK;
}
