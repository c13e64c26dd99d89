/* Recipes that we ship load: load_recipes FILE... */
#include <stdio.h>

#include "curator/recipe.h"

int main(int argc, char **argv)
{
    int rc = 0;

    for (int i = 1; i < argc; i++) {
        struct error err = {0};
        struct recipe recipe;

        if (recipe_load(&recipe, argv[i], NULL, NULL, 0, &err)) {
            fprintf(stderr, "%s\n", err.message);
            rc = 1;
        }
        recipe_release(&recipe);
    }
    return rc;
}
