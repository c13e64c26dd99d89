/*
 * cli/keygen.c - `saerl keygen`: a pair of CURVE keys, for a sidecar or for a trainer.
 */
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "ipc/key_file.h"

static void append_path(struct text *out, const char *name, const char *ending)
{
    char *path = text_format("%s%s", name, ending);

    if (path)
        text_append_json_string(out, path, strlen(path));
    else
        out->failed = true;
    mem_free(path);
}

static void print_json(const char *name, const char *public_key, struct text *out)
{
    text_append(out, "{\"public_key\":");
    text_append_json_string(out, public_key, strlen(public_key));
    text_append(out, ",\"public_file\":");
    append_path(out, name, ".public");
    text_append(out, ",\"secret_file\":");
    append_path(out, name, ".secret");
    text_append(out, "}\n");
}

/* Z85 has neither quotes nor backslashes: a key is a YAML string as it is, once it is quoted. */
static void print_words(const char *name, const char *public_key, struct text *out)
{
    text_appendf(out, "%s.secret: the secret key, readable by you alone; it stays where it is\n",
                 name);
    text_appendf(out, "%s.public: \"%s\"\n\n", name, public_key);
    text_append(out, "as a sidecar's key, in its recipe:\n\n"
                     "    serve: {curve: {secret_key: ");
    append_path(out, name, ".secret");
    text_append(out, ", allow: [...]}}\n\n"
                     "as a trainer's key, in the recipe of the sidecar that it may use:\n\n");
    text_appendf(out, "    serve: {curve: {allow: [\"%s\"]}}\n", public_key);
}

static enum status keygen_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                               struct error *err)
{
    const char **positional = mem_alloc((size_t)argc + 1, sizeof(*positional));
    char public_key[CURVE_KEY_TEXT_SIZE];
    enum option_outcome outcome;
    struct text out = {0};
    enum status st;
    int json = 0;
    const struct option_row rows[] = {
        {"json", 0, OPTION_FLAG, &json, NULL, NULL, "print the key and the files as JSON"},
        {0},
    };

    if (!positional)
        return error_nomem(err);
    st = options_parse(cli, verb, rows, argc, argv, positional, 1, 1, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        st = cli_start(cli, err);
        if (!st)
            st = key_protect_process(err);
        if (!st)
            st = key_files_write(positional[0], public_key, err);
        if (!st) {
            if (json)
                print_json(positional[0], public_key, &out);
            else
                print_words(positional[0], public_key, &out);
            st = cli_write(NULL, &out, err);
        }
    }
    text_release(&out);
    mem_free(positional);
    return st;
}

const struct verb verb_keygen = {
    .name = "keygen",
    .usage = "NAME [--json]",
    .summary = "a pair of keys, NAME.secret and NAME.public, for a sidecar or a trainer",
    .run = keygen_verb,
};
