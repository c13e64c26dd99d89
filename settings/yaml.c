#include "settings/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "base/mem.h"
#include "base/text.h"
#include "settings/path.h"
#include "settings/value.h"

#define FILE_BYTES_MAX (256u << 10)
#define DEPTH_MAX 32
#define EVENTS_MAX 10000
#define EXTENDS_MAX 8
#define RECIPE_VERSION "1"

/* A text on its way through libyaml. */
struct reader {
    yaml_parser_t parser;
    const char *text;
    size_t length;
    const char *key; /* of a single value, for messages; NULL for a file */
    struct setting_origin origin;
    size_t n_events;
    struct error *err;
};

static struct setting_origin origin_at_mark(const struct reader *reader, yaml_mark_t mark)
{
    struct setting_origin origin = reader->origin;

    origin.line = mark.line + 1;
    origin.column = mark.column + 1;
    return origin;
}

static struct setting_origin origin_at_offset(const struct reader *reader, size_t offset)
{
    struct setting_origin origin = reader->origin;

    origin.line = origin.column = 1;
    for (size_t i = 0; i < offset && i < reader->length; i++) {
        unsigned char c = (unsigned char)reader->text[i];

        if (c == '\n') {
            origin.line++;
            origin.column = 1;
        } else if ((c & 0xc0) != 0x80) {
            origin.column++;
        }
    }
    return origin;
}

/* Column of characters to byte: the byte at a mark, 0 behind the end. */
static char byte_at_mark(const struct reader *reader, yaml_mark_t mark)
{
    size_t line = 0, column = 0;

    for (size_t i = 0; i < reader->length; i++) {
        char c = reader->text[i];

        if (((unsigned char)c & 0xc0) == 0x80)
            continue;
        if (line == mark.line && column == mark.column)
            return c;
        if (c == '\n') {
            line++;
            column = 0;
        } else {
            column++;
        }
    }
    return '\0';
}

static enum status refuse_alias(const struct reader *reader, yaml_mark_t mark)
{
    return setting_refuse(reader->err, origin_at_mark(reader, mark), reader->key,
                          "aliases are not supported; text that begins with '*' needs quotes");
}

/* What libyaml found wrong, in its words or in better ones. */
static enum status refuse_syntax(const struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    const char *problem = parser->problem ? parser->problem : "unreadable";
    struct setting_origin origin = origin_at_mark(reader, parser->problem_mark);
    char c;

    if (parser->error == YAML_MEMORY_ERROR)
        return error_nomem(reader->err);
    if (parser->error == YAML_READER_ERROR)
        return setting_refuse(reader->err, origin_at_offset(reader, parser->problem_offset),
                              reader->key, "not valid YAML: %s", problem);
    if (parser->context && strcmp(parser->context, "while scanning an alias") == 0)
        return refuse_alias(reader, parser->context_mark);
    c = byte_at_mark(reader, parser->problem_mark);
    if (c == '\t')
        return setting_refuse(reader->err, origin, reader->key,
                              "found a tab, expected spaces for indentation");
    if (c == '@' || c == '`' || c == '%')
        return setting_refuse(reader->err, origin, reader->key,
                              "text that begins with '%c' needs quotes", c);
    return setting_refuse(reader->err, origin, reader->key, "not valid YAML: %s%s%s", problem,
                          parser->context ? " " : "", parser->context ? parser->context : "");
}

static const char *anchor_of(const yaml_event_t *event)
{
    if (event->type == YAML_SCALAR_EVENT)
        return (const char *)event->data.scalar.anchor;
    if (event->type == YAML_SEQUENCE_START_EVENT)
        return (const char *)event->data.sequence_start.anchor;
    if (event->type == YAML_MAPPING_START_EVENT)
        return (const char *)event->data.mapping_start.anchor;
    return NULL;
}

static const char *tag_of(const yaml_event_t *event)
{
    if (event->type == YAML_SCALAR_EVENT)
        return (const char *)event->data.scalar.tag;
    if (event->type == YAML_SEQUENCE_START_EVENT)
        return (const char *)event->data.sequence_start.tag;
    if (event->type == YAML_MAPPING_START_EVENT)
        return (const char *)event->data.mapping_start.tag;
    return NULL;
}

/* The next event; on error there is none to delete. */
static enum status next_event(struct reader *reader, yaml_event_t *event)
{
    enum status st = STATUS_OK;

    if (!yaml_parser_parse(&reader->parser, event))
        return refuse_syntax(reader);
    if (++reader->n_events > EVENTS_MAX)
        st = setting_refuse(reader->err, origin_at_mark(reader, event->start_mark), reader->key,
                            "more than %d YAML events", EVENTS_MAX);
    else if (event->type == YAML_ALIAS_EVENT)
        st = refuse_alias(reader, event->start_mark);
    else if (anchor_of(event))
        st = setting_refuse(reader->err, origin_at_mark(reader, event->start_mark), reader->key,
                            "anchors are not supported, found '&%.40s'; use 'extends'",
                            anchor_of(event));
    else if (tag_of(event))
        st = setting_refuse(reader->err, origin_at_mark(reader, event->start_mark), reader->key,
                            "tags are not supported, found '%.40s'", tag_of(event));
    if (st)
        yaml_event_delete(event);
    return st;
}

static enum status read_scalar(struct setting_value *value, const struct reader *reader,
                               const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t n = event->data.scalar.length;

    if (memchr(text, '\0', n))
        return setting_refuse(reader->err, origin_at_mark(reader, event->start_mark), reader->key,
                              "text with a zero byte");
    value->kind = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? VALUE_PLAIN : VALUE_QUOTED;
    value->text = mem_strndup(text, n);
    return value->text ? STATUS_OK : error_nomem(reader->err);
}

static enum status read_value(struct setting_value *value, struct reader *reader,
                              const yaml_event_t *event, int depth);

static enum status read_items(struct setting_value *value, struct reader *reader, int depth)
{
    yaml_event_type_t end =
        value->kind == VALUE_LIST ? YAML_SEQUENCE_END_EVENT : YAML_MAPPING_END_EVENT;
    enum status st = STATUS_OK;

    while (!st) {
        yaml_event_t event;
        void *items = value->items;
        yaml_event_type_t type;

        st = next_event(reader, &event);
        if (st)
            break;
        type = event.type;
        if (type != end && !mem_grow(&items, &value->capacity, value->n + 1, sizeof(*value))) {
            st = error_nomem(reader->err);
        } else if (type != end) {
            value->items = items;
            value->items[value->n] = (struct setting_value){0};
            st = read_value(&value->items[value->n++], reader, &event, depth);
        }
        yaml_event_delete(&event);
        if (type == end)
            break;
    }
    return st;
}

/* `event` begins the value. Recursion is as deep as DEPTH_MAX. */
static enum status read_value(struct setting_value *value, struct reader *reader,
                              const yaml_event_t *event, int depth)
{
    value->line = event->start_mark.line + 1;
    value->column = event->start_mark.column + 1;
    if (event->type == YAML_SCALAR_EVENT)
        return read_scalar(value, reader, event);
    if (depth == DEPTH_MAX)
        return setting_refuse(reader->err, origin_at_mark(reader, event->start_mark), reader->key,
                              "nested deeper than %d levels", DEPTH_MAX);
    value->kind = event->type == YAML_SEQUENCE_START_EVENT ? VALUE_LIST : VALUE_MAPPING;
    return read_items(value, reader, depth + 1);
}

static enum status refuse_document(struct reader *reader, const yaml_event_t *event)
{
    struct setting_origin origin = origin_at_mark(reader, event->start_mark);

    if (event->type == YAML_STREAM_END_EVENT)
        return setting_refuse(reader->err, origin, reader->key,
                              "the file is empty, expected 'version: " RECIPE_VERSION "'");
    if (event->data.document_start.tag_directives.start !=
        event->data.document_start.tag_directives.end)
        return setting_refuse(reader->err, origin, reader->key, "tags are not supported");
    return STATUS_OK;
}

/* Stream: start, one document of one value, end. */
static enum status read_stream(struct setting_value *value, struct reader *reader)
{
    enum status st = STATUS_OK;

    for (int step = 0; !st; step++) {
        yaml_event_t event;
        yaml_event_type_t type;

        st = next_event(reader, &event);
        if (st)
            break;
        type = event.type;
        if (step == 1) /* document start */
            st = refuse_document(reader, &event);
        else if (step == 2)
            st = read_value(value, reader, &event, 0);
        else if (step == 4 && type != YAML_STREAM_END_EVENT)
            st = setting_refuse(reader->err, origin_at_mark(reader, event.start_mark), reader->key,
                                "a second document, expected one");
        yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT)
            break;
    }
    return st;
}

static enum status parse_text(struct setting_value *value, struct reader *reader)
{
    enum status st;

    if (!yaml_parser_initialize(&reader->parser))
        return error_nomem(reader->err);
    yaml_parser_set_encoding(&reader->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader->parser, (const unsigned char *)reader->text,
                                 reader->length);
    st = read_stream(value, reader);
    yaml_parser_delete(&reader->parser);
    if (st)
        setting_value_release(value);
    return st;
}

/* Positions in a value that stands in no file say nothing. */
static void forget_positions(struct setting_value *value)
{
    value->line = value->column = 0;
    for (size_t i = 0; i < value->n; i++)
        forget_positions(&value->items[i]);
}

enum status setting_value_parse(struct setting_value *value, const char *text, const char *key,
                                struct setting_origin origin, struct error *err)
{
    struct reader reader = {.key = key, .origin = origin, .err = err};
    const char *blanks = " \t\r\n";
    enum status st;

    *value = (struct setting_value){0};
    text += strspn(text, blanks);
    reader.text = text;
    reader.length = strlen(text);
    if (reader.length > FILE_BYTES_MAX)
        return setting_refuse(err, origin, key, "longer than %u KiB", FILE_BYTES_MAX >> 10);
    if (text_utf8_valid(text, reader.length) != reader.length)
        return setting_refuse(err, origin, key, "not UTF-8");
    if (*text && strchr("\"'[{", *text)) {
        st = parse_text(value, &reader);
        if (!st)
            forget_positions(value);
        return st;
    }
    while (reader.length && strchr(blanks, text[reader.length - 1]))
        reader.length--;
    value->kind = VALUE_PLAIN;
    value->text = mem_strndup(text, reader.length);
    return value->text ? STATUS_OK : error_nomem(err);
}

/*
 * What libyaml would report in its own way or let pass: bytes that are not UTF-8, and tabs in front
 * of a line's text, where they look like indentation and are none.
 */
static enum status check_bytes(const struct reader *reader)
{
    size_t valid = text_utf8_valid(reader->text, reader->length);
    size_t tab = SIZE_MAX;
    enum {
        BLANK,
        TEXT
    } state = BLANK;

    if (valid != reader->length)
        return setting_refuse(reader->err, origin_at_offset(reader, valid), NULL,
                              "byte 0x%02x is not UTF-8", (unsigned char)reader->text[valid]);
    for (size_t i = 0; i < reader->length; i++) {
        char c = reader->text[i];

        if (c == '\n') {
            state = BLANK;
            tab = SIZE_MAX;
        } else if (c == '\t' && state == BLANK && tab == SIZE_MAX) {
            tab = i;
        } else if (c == '#' && state == BLANK) {
            state = TEXT;
        } else if (c != ' ' && c != '\t' && c != '\r' && state == BLANK) {
            if (tab != SIZE_MAX)
                return setting_refuse(reader->err, origin_at_offset(reader, tab), NULL,
                                      "found a tab, expected spaces for indentation");
            state = TEXT;
        }
    }
    return STATUS_OK;
}

/* A file of the chain from the recipe to its bases. */
struct link {
    const struct link *heir;
    const char *path; /* as messages show it */
    char *folder;     /* absolute: relative paths in the file start here */
    dev_t device;
    ino_t inode;
    int depth;
    const struct setting_section *schema;
    void *target;
    struct error *err;
};

static struct setting_origin origin_of(const struct link *file, const struct setting_value *value)
{
    return setting_origin_at((struct setting_origin){.file = file->path, .line = 1, .column = 1},
                             value);
}

static enum status read_bytes(struct text *bytes, struct link *file)
{
    struct stat st;
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    enum status status = STATUS_OK;

    if (fd < 0)
        return error_set(file->err, STATUS_INVALID, "%s: %s", file->path, strerror(errno));
    if (fstat(fd, &st) != 0) {
        status = error_set(file->err, STATUS_INVALID, "%s: %s", file->path, strerror(errno));
        goto out;
    }
    file->device = st.st_dev;
    file->inode = st.st_ino;
    for (;;) {
        char part[4096];
        ssize_t n = read(fd, part, sizeof(part));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status = error_set(file->err, STATUS_INVALID, "%s: %s", file->path, strerror(errno));
        if (n <= 0)
            break;
        text_append_n(bytes, part, (size_t)n);
        if (bytes->length > FILE_BYTES_MAX) {
            status = error_set(file->err, STATUS_INVALID, "%s: larger than %u KiB", file->path,
                               FILE_BYTES_MAX >> 10);
            break;
        }
    }
    if (!status)
        status = text_check(bytes, file->err);
out:
    close(fd);
    return status;
}

/* Keys are plain words, and each stands once. */
static enum status check_keys(const struct link *file, const struct setting_value *mapping,
                              const char *path)
{
    for (size_t i = 0; i < mapping->n; i += 2) {
        const struct setting_value *key = &mapping->items[i];
        char found[SETTING_FOUND_MAX];

        setting_value_found(found, key);
        if (key->kind == VALUE_LIST || key->kind == VALUE_MAPPING || !*key->text)
            return setting_refuse(file->err, origin_of(file, key), path,
                                  "%s as a key, expected a word", found);
        if (key->kind == VALUE_PLAIN && strcmp(key->text, "<<") == 0)
            return setting_refuse(file->err, origin_of(file, key), path,
                                  "merge keys ('<<') are not supported; use 'extends'");
        for (size_t j = 0; j < i; j += 2) {
            if (strcmp(key->text, mapping->items[j].text) == 0)
                return setting_refuse(file->err, origin_of(file, key), path,
                                      "key '%.60s' stands twice, first in line %zu", key->text,
                                      mapping->items[j].line);
        }
    }
    return STATUS_OK;
}

static enum status apply_mapping(const struct link *file, const struct setting_value *mapping,
                                 const char *path);

static enum status apply_entry(const struct link *file, const struct setting_value *name,
                               const struct setting_value *value, const char *key)
{
    const struct setting_section *section;
    const struct setting *row;
    char found[SETTING_FOUND_MAX];
    const char *dot = strchr(name->text, '.');

    if (dot && (schema_find(file->schema, key, &section) || schema_has_section(file->schema, key)))
        return setting_refuse(file->err, origin_of(file, name), key,
                              "a key within a section stands below '%.*s:'",
                              (int)(dot - name->text), name->text);
    row = schema_find(file->schema, key, &section);
    setting_value_found(found, value);
    if (row && value->kind == VALUE_MAPPING)
        return setting_refuse(file->err, origin_of(file, value), key,
                              "is a single setting, found %s", found);
    if (row)
        return setting_store(row, (char *)file->target + section->offset, key, value, file->folder,
                             origin_of(file, value), file->err);
    if (!schema_has_section(file->schema, key))
        return schema_unknown_key(file->schema, key, origin_of(file, name), file->err);
    if (value->kind != VALUE_MAPPING)
        return setting_refuse(file->err, origin_of(file, value), key,
                              "is a section, expected 'key: value' below it, found %s", found);
    return apply_mapping(file, value, key);
}

static enum status apply_mapping(const struct link *file, const struct setting_value *mapping,
                                 const char *path)
{
    enum status st = check_keys(file, mapping, path);
    struct text key = {0};

    for (size_t i = 0; i < mapping->n && !st; i += 2) {
        const struct setting_value *name = &mapping->items[i];

        if (!*path && strcmp(name->text, "extends") == 0)
            continue;
        text_clear(&key);
        text_append(&key, path);
        if (*path)
            text_append_char(&key, '.');
        text_append(&key, name->text);
        st = text_check(&key, file->err);
        if (!st)
            st = apply_entry(file, name, name + 1, key.data);
    }
    text_release(&key);
    return st;
}

static const struct setting_value *mapping_get(const struct setting_value *mapping, const char *key)
{
    for (size_t i = 0; i < mapping->n; i += 2) {
        const struct setting_value *name = &mapping->items[i];

        if ((name->kind == VALUE_PLAIN || name->kind == VALUE_QUOTED) &&
            strcmp(name->text, key) == 0)
            return name + 1;
    }
    return NULL;
}

/* Said before anything else: a recipe of another version may differ in every key. */
static enum status check_version(const struct link *file, const struct setting_value *root)
{
    const struct setting_value *version;
    char found[SETTING_FOUND_MAX];

    if (root->kind != VALUE_MAPPING) {
        setting_value_found(found, root);
        return setting_refuse(file->err, origin_of(file, root), NULL,
                              "expected 'version: " RECIPE_VERSION "' and more settings, found %s",
                              found);
    }
    version = mapping_get(root, "version");
    if (!version)
        return setting_refuse(file->err, origin_of(file, root), "version",
                              "missing, expected 'version: " RECIPE_VERSION "'");
    setting_value_found(found, version);
    if (version->kind != VALUE_PLAIN || strcmp(version->text, RECIPE_VERSION) != 0)
        return setting_refuse(file->err, origin_of(file, version), "version",
                              "this program reads version " RECIPE_VERSION ", found %s", found);
    return STATUS_OK;
}

static enum status read_link(struct link *file);

static enum status read_base(const struct link *file, const struct setting_value *extends)
{
    struct link base = {.heir = file,
                        .depth = file->depth + 1,
                        .schema = file->schema,
                        .target = file->target,
                        .err = file->err};
    char *folder = NULL, *path = NULL;
    char found[SETTING_FOUND_MAX];
    enum status st;

    setting_value_found(found, extends);
    if (extends->kind == VALUE_LIST || extends->kind == VALUE_MAPPING || !*extends->text ||
        setting_value_is_null(extends))
        return setting_refuse(file->err, origin_of(file, extends), "extends",
                              "expected the path of a recipe, found %s", found);
    if (base.depth > EXTENDS_MAX)
        return setting_refuse(file->err, origin_of(file, extends), "extends",
                              "a chain of more than %d recipes", EXTENDS_MAX);
    st = path_folder(&folder, file->path, file->err);
    if (!st)
        st = path_join(&path, folder, extends->text, file->err);
    base.path = path;
    if (!st)
        st = read_link(&base);
    /* The heir's position is worth more than a bare "no such file". */
    if (st == STATUS_INVALID && !base.folder)
        st = error_wrap(file->err, st, "%s:%zu:%zu: extends", file->path, extends->line,
                        extends->column);
    mem_free(base.folder);
    mem_free(path);
    mem_free(folder);
    return st;
}

/* Read one file, its base first. `folder` is set once the file could be read. */
static enum status read_link(struct link *file)
{
    struct setting_value root = {0};
    struct text bytes = {0};
    char *absolute = NULL;
    const struct setting_value *extends;
    struct reader reader = {.origin.file = file->path, .err = file->err};
    enum status st = read_bytes(&bytes, file);

    for (const struct link *heir = file->heir; heir && !st; heir = heir->heir) {
        if (heir->device == file->device && heir->inode == file->inode)
            st = error_set(file->err, STATUS_INVALID, "%s: the recipe extends itself", file->path);
    }
    if (!st)
        st = path_absolute(&absolute, NULL, file->path, file->err);
    if (!st)
        st = path_folder(&file->folder, absolute, file->err);
    reader.text = text_string(&bytes);
    reader.length = bytes.length;
    if (reader.length >= 3 && memcmp(reader.text, "\xef\xbb\xbf", 3) == 0) { /* byte order mark */
        reader.text += 3;
        reader.length -= 3;
    }
    if (!st)
        st = check_bytes(&reader);
    if (!st)
        st = parse_text(&root, &reader);
    if (!st)
        st = check_version(file, &root);
    extends = st ? NULL : mapping_get(&root, "extends");
    if (extends)
        st = read_base(file, extends);
    if (!st)
        st = apply_mapping(file, &root, "");
    setting_value_release(&root);
    text_release(&bytes);
    mem_free(absolute);
    return st;
}

enum status yaml_read_settings(const char *path, const struct setting_section *schema, void *target,
                               struct error *err)
{
    struct link file = {.path = path, .depth = 1, .schema = schema, .target = target, .err = err};
    enum status st = read_link(&file);

    if (!st)
        st = settings_resolve_paths(schema, target, file.folder, err);
    mem_free(file.folder);
    return st;
}
