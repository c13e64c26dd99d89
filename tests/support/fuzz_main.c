/*
 * Runs a fuzz target over the files and folders given as arguments, where libFuzzer, which brings
 * a main of its own, is not linked in.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/support/fuzz.h"

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat st;
    unsigned char *bytes;
    size_t n;

    if (!file || fstat(fileno(file), &st)) {
        perror(path);
        exit(1);
    }
    n = (size_t)st.st_size;
    /* Exactly as large as the input, so that reading past it shows. */
    bytes = malloc(n ? n : 1);
    if (!bytes || fread(bytes, 1, n, file) != n) {
        perror(path);
        exit(1);
    }
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, n);
    free(bytes);
    return 1;
}

static int run_folder(const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort);
    int runs = 0;

    if (n < 0)
        return run_file(path);
    for (int i = 0; i < n; i++) {
        char inner[4096];

        snprintf(inner, sizeof(inner), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') {
            printf("%s\n", inner);
            fflush(stdout);
            runs += run_file(inner);
        }
        free(entries[i]);
    }
    free(entries);
    return runs;
}

int main(int argc, char **argv)
{
    int runs = 0;

    for (int i = 1; i < argc; i++)
        runs += run_folder(argv[i]);
    printf("%d inputs\n", runs);
    return runs > 0 ? 0 : 1;
}
