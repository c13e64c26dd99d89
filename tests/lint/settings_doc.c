/*
 * docs/settings.md from the tables. Without arguments it is printed; with a file name the file is
 * compared and the first line that differs is named.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "curator/recipe.h"

static const char introduction[] =
    "<!-- Printed from the tables by scripts/update_docs.sh; do not edit. -->\n"
    "# Settings\n"
    "\n"
    "Every key of a recipe, as `section.key`. A value is taken from the first of these that has\n"
    "it: the command line (`--set batches.size=64`), the environment (`SAERL_BATCHES_SIZE=64`),\n"
    "the recipe, the recipe it `extends`, the default. `recipe.lock.yaml` in a run folder has\n"
    "all of them spelled out. Relative paths are taken from the folder of the file they stand in,\n"
    "those of the command line and the environment from the current folder; `-` is standard\n"
    "input. Where a list is expected, a single value is a list of one. [recipe.md](recipe.md) is\n"
    "the guide.\n"
    "\n"
    "`extends: base.yaml` at the top level of a file reads that recipe first, at most 8 in a "
    "row.\n";

static int compare(const char *expected, const char *path)
{
    FILE *file = fopen(path, "rb");
    char line[4096];
    size_t number = 0;

    if (!file) {
        perror(path);
        return 1;
    }
    while (fgets(line, sizeof(line), file)) {
        size_t n = strlen(line);

        number++;
        if (strncmp(line, expected, n) != 0) {
            fprintf(stderr, "%s:%zu: not what the tables say, run scripts/update_docs.sh: %s", path,
                    number, line);
            fclose(file);
            return 1;
        }
        expected += n;
    }
    fclose(file);
    if (*expected) {
        fprintf(stderr, "%s: ends too early, run scripts/update_docs.sh\n", path);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct text out = {0};
    int rc = 0;

    text_append(&out, introduction);
    settings_print_markdown(recipe_schema, &out);
    if (text_check(&out, NULL))
        rc = 1;
    else if (argc > 1)
        rc = compare(text_string(&out), argv[1]);
    else
        fputs(text_string(&out), stdout);
    text_release(&out);
    return rc;
}
