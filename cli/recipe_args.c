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

/* --set, then the flags that stand for a key. */
struct overrides {
    struct recipe_override *items;
    char **storage; /* [args->set.n] */
    size_t n;
};

static void overrides_release(struct overrides *overrides, const struct recipe_args *args)
{
    for (size_t i = 0; overrides->storage && i < args->set.n; i++)
        mem_free(overrides->storage[i]);
    mem_free(overrides->storage);
    mem_free(overrides->items);
}

static enum status overrides_init(struct overrides *overrides, const struct recipe_args *args,
                                  struct error *err)
{
    size_t n = args->set.n;
    enum status st;

    *overrides = (struct overrides){
        .items = mem_alloc(n + args->n_flags, sizeof(*overrides->items)),
        .storage = mem_zalloc(n, sizeof(*overrides->storage)),
        .n = n + args->n_flags,
    };
    if (!overrides->items || !overrides->storage)
        return error_nomem(err);
    st = options_overrides(overrides->items, overrides->storage, &args->set, err);
    for (size_t i = 0; !st && i < args->n_flags; i++) {
        overrides->items[n + i] =
            (struct recipe_override){args->flags[i].key, args->flags[i].value, args->flags[i].flag};
    }
    return st;
}

enum status recipe_args_load(struct recipe *recipe, const char *path,
                             const struct recipe_args *args, struct error *err)
{
    struct overrides overrides;
    enum status st = overrides_init(&overrides, args, err);

    *recipe = (struct recipe){0};
    if (!st)
        st = recipe_load(recipe, path, environ, overrides.items, overrides.n, err);
    overrides_release(&overrides, args);
    return st;
}

enum status recipe_args_apply(struct recipe *recipe, const struct recipe_args *args,
                              struct error *err)
{
    struct overrides overrides;
    enum status st = overrides_init(&overrides, args, err);

    if (!st)
        st = recipe_apply(recipe, NULL, environ, overrides.items, overrides.n, err);
    overrides_release(&overrides, args);
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
