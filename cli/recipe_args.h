/*
 * cli/recipe_args.h - options that change a recipe: --set and the flags that stand for one key.
 */
#ifndef CLI_RECIPE_ARGS_H
#define CLI_RECIPE_ARGS_H

#include "base/error.h"
#include "cli/cli.h"
#include "curator/recipe.h"

#define RECIPE_FLAGS_MAX 8

struct recipe_args {
    struct argument_list set; /* --set key=value, in order */
    struct {
        const char *key, *value, *flag; /* value NULL: not given */
    } flags[RECIPE_FLAGS_MAX];
    size_t n_flags;
};

MUST_CHECK
enum status recipe_args_init(struct recipe_args *args, int argc, struct error *err);
void recipe_args_release(struct recipe_args *args);

/* "--seed 3" stands for seed=3. `value` may be NULL: nothing happens. */
void recipe_args_flag(struct recipe_args *args, const char *key, const char *value,
                      const char *flag);

/* Defaults, the file (NULL: none), the environment, then these. */
MUST_CHECK
enum status recipe_args_load(struct recipe *recipe, const char *path,
                             const struct recipe_args *args, struct error *err);

/* The environment, then these, onto a recipe that has its defaults. What is left to do is
 * recipe_finish(). */
MUST_CHECK
enum status recipe_args_apply(struct recipe *recipe, const struct recipe_args *args,
                              struct error *err);

/* STATUS_INVALID for a --set whose key does not begin with one of `prefixes` (NULL-terminated). */
MUST_CHECK
enum status recipe_args_restrict(const struct recipe_args *args, const char *const *prefixes,
                                 struct error *err);

#endif
