/*
 * cli/ctl.c - `saerl ctl`: ask a running sidecar how it does, or tell it to save or to end.
 *
 * It is a client like a trainer (docs/protocol.md), of a run of its own, "saerl-ctl"; for what
 * belongs to a trainer's run, peek and save, it says HELLO a second time, as that run.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "ipc/client.h"
#include "ipc/key_file.h"

#define OWN_RUN "saerl-ctl"
#define TIMEOUT_SECONDS_MAX 3600.0
#define BYE_SECONDS 0.5
#define DRAIN_MS 10000
#define VALUE_WIDTH_MAX 200

struct ctl {
    /* as given */
    const char *endpoint, *run, *tag, *server_key, *secret_key;
    uint64_t count;
    double timeout_s;
    int json;

    double deadline;
    char server[CURVE_KEY_TEXT_SIZE], secret[CURVE_KEY_TEXT_SIZE];
    struct client *client; /* of OWN_RUN, and then of the run asked about */
    struct text out;
};

/* A larger one with every start, and below 2^53 until the year 2554: steps of 2 us. */
static uint64_t incarnation(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return ((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec) >> 11;
}

static enum status open_as(struct ctl *ctl, const char *run, struct error *err)
{
    char name[32];
    const struct client_config config = {
        .endpoint = ctl->endpoint,
        .run = run,
        .client = name,
        .incarnation = incarnation(),
        .server_key = ctl->server_key ? ctl->server : NULL,
        .secret_key = ctl->secret_key ? ctl->secret : NULL,
        .timeout_s = ctl->timeout_s,
    };

    snprintf(name, sizeof(name), "ctl-%ld", (long)getpid());
    return client_open(&ctl->client, &config, err);
}

static void close_client(struct ctl *ctl)
{
    if (ctl->client)
        client_bye(ctl->client, BYE_SECONDS);
    client_close(ctl->client);
    ctl->client = NULL;
}

/* --timeout is of all that is asked; what is left of it, and never nothing. */
static double time_left(const struct ctl *ctl)
{
    double left = ctl->deadline - clock_seconds();

    return left > 0.001 ? left : 0.001;
}

/* A request without tensors; `members` as in a header, "" for none. */
static enum status ask(struct ctl *ctl, enum protocol_kind kind, const char *members,
                       struct client_reply *reply, struct error *err)
{
    struct message_out out = {0};
    enum status st;

    text_append(&out.header, members);
    client_set_timeout(ctl->client, time_left(ctl));
    st = client_call(ctl->client, kind, &out, reply, NULL, err);
    message_out_release(&out);
    if (st && st != STATUS_UNREACHABLE)
        return error_wrap(err, st, "%s: %s", ctl->endpoint, protocol_kind_name(kind));
    return st;
}

/* A reply's members for a program; the tensors are told in our own words. */
static void print_members(const struct json *header, struct text *out)
{
    for (struct json_iterator it = json_iterate(header); json_next(&it);) {
        if (strcmp(it.key, "tensors") == 0)
            continue;
        text_append(out, out->length > 1 ? "," : "");
        text_append_json_string(out, it.key, it.key_length);
        text_append_char(out, ':');
        json_print(it.value, out);
    }
}

static void print_json(struct ctl *ctl, const struct json *header)
{
    text_append_char(&ctl->out, '{');
    print_members(header, &ctl->out);
    text_append(&ctl->out, "}\n");
}

/* A value on one line, whatever the peer put into it. */
static void print_value(const struct json *value, struct text *out)
{
    struct text plain = {0};
    const char *string;
    size_t n;

    if (json_type(value) == JSON_STRING) {
        string = json_string(value, &n);
        text_append_visible(out, string, n, VALUE_WIDTH_MAX);
        return;
    }
    if (json_type(value) == JSON_NULL) {
        text_append(out, "-");
        return;
    }
    json_print(value, &plain);
    text_append_visible(out, text_string(&plain), plain.length, VALUE_WIDTH_MAX);
    out->failed |= plain.failed;
    text_release(&plain);
}

static void print_line(struct text *out, size_t width, const char *name, size_t n)
{
    size_t start = out->length;

    text_append_visible(out, name, n, VALUE_WIDTH_MAX);
    do
        text_append_char(out, ' ');
    while (!out->failed && out->length < start + width + 2);
}

/* Members in aligned lines; then each member that has members itself, below its name. */
static void print_group(const struct json *object, const char *name, struct text *out)
{
    size_t width = 0;

    for (struct json_iterator it = json_iterate(object); json_next(&it);) {
        if (json_type(it.value) != JSON_OBJECT && it.key_length > width)
            width = it.key_length;
    }
    if (width && *name)
        text_appendf(out, "\n%s\n", name);
    for (struct json_iterator it = json_iterate(object); json_next(&it);) {
        if (json_type(it.value) == JSON_OBJECT || (!*name && strcmp(it.key, "tensors") == 0))
            continue;
        text_append(out, *name ? "  " : "");
        print_line(out, width, it.key, it.key_length);
        print_value(it.value, out);
        text_append_char(out, '\n');
    }
    for (struct json_iterator it = json_iterate(object); json_next(&it);) {
        struct text inner = {0};

        if (json_type(it.value) != JSON_OBJECT)
            continue;
        if (*name)
            text_appendf(&inner, "%s.", name);
        text_append_visible(&inner, it.key, it.key_length, VALUE_WIDTH_MAX);
        print_group(it.value, text_string(&inner), out);
        out->failed |= inner.failed;
        text_release(&inner);
    }
}

static void print_reply(struct ctl *ctl, const struct json *header)
{
    if (ctl->json)
        print_json(ctl, header);
    else
        print_group(header, "", &ctl->out);
}

static void print_ping(struct ctl *ctl, const struct json *header, double round_trip_ms)
{
    struct text *out = &ctl->out;

    if (ctl->json) {
        text_append_char(out, '{');
        print_members(header, out);
        text_appendf(out, "%s\"round_trip_ms\":", out->length > 1 ? "," : "");
        text_append_double(out, round_trip_ms);
        text_append(out, "}\n");
        return;
    }
    text_append(out, "state       ");
    print_value(json_member(header, "state"), out);
    text_appendf(out, "\nuptime      %.1f s\nround trip  %.2f ms\n",
                 json_double(json_member(header, "uptime_s")), round_trip_ms);
}

static enum status ping(struct ctl *ctl, struct error *err)
{
    struct client_reply reply = {0};
    double start;
    enum status st = ask(ctl, KIND_PING, "", &reply, err);

    /* The first one found the sidecar, and may have said HELLO on the way; the second is timed. */
    client_reply_release(&reply);
    if (st)
        return st;
    start = clock_seconds();
    st = ask(ctl, KIND_PING, "", &reply, err);
    if (!st)
        print_ping(ctl, reply.message.header, (clock_seconds() - start) * 1e3);
    client_reply_release(&reply);
    return st;
}

static enum status stats(struct ctl *ctl, struct error *err)
{
    struct client_reply reply = {0};
    enum status st = ask(ctl, KIND_STATS, "", &reply, err);

    if (!st)
        print_reply(ctl, reply.message.header);
    client_reply_release(&reply);
    return st;
}

/*
 * The run that --run names, or without it the only one; ours does not count. A SAVE begins the run
 * it is said in: a misspelt name would be there for good.
 */
static enum status find_run(const struct ctl *ctl, const struct json *runs, const char **run,
                            struct error *err)
{
    const char *found = NULL;
    struct text names = {0};
    enum status st = STATUS_OK;
    size_t n = 0;

    for (size_t i = 0; i < json_length(runs); i++) {
        size_t length;
        const char *name = json_string(json_element(runs, i), &length);

        if (!name || strcmp(name, OWN_RUN) == 0)
            continue;
        if (!ctl->run || strcmp(name, ctl->run) == 0)
            found = name;
        text_append(&names, n++ ? ", " : "");
        text_append_visible(&names, name, length, VALUE_WIDTH_MAX);
    }
    if (n == 0 && !ctl->run)
        st = error_set(err, STATUS_FAILED, "%s: no run is there yet", ctl->endpoint);
    else if (n > 1 && !ctl->run)
        st = error_set(err, STATUS_INVALID, "%s: %zu runs are there, --run says which: %s",
                       ctl->endpoint, n, text_string(&names));
    else if (!found)
        st = error_set(err, STATUS_FAILED, "%s: no run '%s' is there, found: %s", ctl->endpoint,
                       ctl->run, n ? text_string(&names) : "none");
    text_release(&names);
    *run = found;
    return st;
}

enum run_wanted {
    RUN_ANY, /* one that is not there yet will do: what would it begin with? */
    RUN_THERE,
};

/* Become a client of the run that is asked about. */
static enum status enter_run(struct ctl *ctl, enum run_wanted wanted, struct error *err)
{
    struct client_reply reply = {0};
    const char *run = ctl->run;
    enum status st = STATUS_OK;

    if (!run || wanted == RUN_THERE) {
        st = ask(ctl, KIND_STATS, "", &reply, err);
        if (!st)
            st = find_run(ctl, json_member(reply.message.header, "runs"), &run, err);
    }
    if (!st) {
        close_client(ctl);
        st = open_as(ctl, run, err);
    }
    client_reply_release(&reply);
    return st;
}

static enum status print_sids(struct ctl *ctl, const struct message *message, struct error *err)
{
    const struct tensor *sid = message_tensor(message, "sid");
    struct text *out = &ctl->out;

    if (!sid || sid->dtype != DTYPE_U64)
        return error_set(err, STATUS_FORMAT, "%s: PEEK: no tensor 'sid' of u64 in the reply",
                         ctl->endpoint);
    if (ctl->json) {
        text_append_char(out, '{');
        print_members(message->header, out);
        text_append(out, out->length > 1 ? ",\"sid\":[" : "\"sid\":[");
    }
    for (size_t i = 0; i < sid->count; i++)
        text_appendf(out, ctl->json ? "%s%" PRIu64 : "%s%" PRIu64 "\n", ctl->json && i ? "," : "",
                     tensor_u64(sid, i));
    if (ctl->json)
        text_append(out, "]}\n");
    return STATUS_OK;
}

static enum status peek(struct ctl *ctl, struct error *err)
{
    struct client_reply reply = {0};
    char members[32];
    enum status st = enter_run(ctl, RUN_ANY, err);

    snprintf(members, sizeof(members), "\"k\":%" PRIu64, ctl->count);
    if (!st)
        st = ask(ctl, KIND_PEEK, members, &reply, err);
    if (!st)
        st = print_sids(ctl, &reply.message, err);
    client_reply_release(&reply);
    return st;
}

static enum status save(struct ctl *ctl, struct error *err)
{
    struct client_reply reply = {0};
    struct text members = {0};
    enum status st;

    text_append(&members, "\"tag\":");
    text_append_json_string(&members, ctl->tag, strlen(ctl->tag));
    st = text_check(&members, err);
    if (!st)
        st = enter_run(ctl, RUN_THERE, err);
    if (!st)
        st = ask(ctl, KIND_SAVE, text_string(&members), &reply, err);
    if (!st)
        print_reply(ctl, reply.message.header);
    client_reply_release(&reply);
    text_release(&members);
    return st;
}

static enum status end(struct ctl *ctl, unsigned drain_ms, struct error *err)
{
    struct client_reply reply = {0};
    char members[32];
    enum status st;

    snprintf(members, sizeof(members), "\"drain_ms\":%u", drain_ms);
    st = ask(ctl, KIND_SHUTDOWN, members, &reply, err);
    if (!st)
        print_reply(ctl, reply.message.header);
    client_reply_release(&reply);
    /* Nobody is left to say BYE to. */
    client_close(ctl->client);
    ctl->client = NULL;
    return st;
}

static enum status drain(struct ctl *ctl, struct error *err)
{
    return end(ctl, DRAIN_MS, err);
}

static enum status shut_down(struct ctl *ctl, struct error *err)
{
    return end(ctl, 0, err);
}

struct command {
    const char *name;
    enum status (*run)(struct ctl *ctl, struct error *err);
    bool of_a_run; /* takes --run */
};

static const struct command commands[] = {
    {"ping", ping, false}, {"stats", stats, false}, {"peek", peek, true},
    {"save", save, true},  {"drain", drain, false}, {"shutdown", shut_down, false},
};

static const struct command *find_command(const char *name, struct error *err)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    error_set(err, STATUS_INVALID, "ctl: '%s', expected ping, stats, peek, save, drain or shutdown",
              name);
    return NULL;
}

static enum status check_usage(const struct command *command, const struct ctl *ctl,
                               struct error *err)
{
    if (!(ctl->timeout_s > 0 && ctl->timeout_s <= TIMEOUT_SECONDS_MAX))
        return error_set(err, STATUS_INVALID,
                         "--timeout: %g, expected more than 0 s and at most %g", ctl->timeout_s,
                         TIMEOUT_SECONDS_MAX);
    if (ctl->run && !command->of_a_run)
        return error_set(err, STATUS_INVALID, "ctl: --run is for peek and save");
    if (command->run == save && !ctl->tag)
        return error_set(err, STATUS_INVALID, "ctl: save needs --tag, the name of the state");
    if (!ctl->server_key != !ctl->secret_key)
        return error_set(err, STATUS_INVALID,
                         "ctl: --server-key and --key go together, --%s is "
                         "missing",
                         ctl->server_key ? "key" : "server-key");
    return STATUS_OK;
}

static enum status read_keys(struct ctl *ctl, struct error *err)
{
    enum status st;

    if (!ctl->secret_key)
        return STATUS_OK;
    st = key_read_public(ctl->server, ctl->server_key, err);
    if (!st)
        st = key_read_secret(ctl->secret, ctl->secret_key, err);
    return st;
}

static enum status run_command(const struct command *command, struct ctl *ctl, struct error *err)
{
    enum status st = check_usage(command, ctl, err);

    if (!st)
        st = read_keys(ctl, err);
    ctl->deadline = clock_seconds() + ctl->timeout_s;
    if (!st)
        st = open_as(ctl, OWN_RUN, err);
    if (!st)
        st = command->run(ctl, err);
    if (!st)
        st = cli_write(NULL, &ctl->out, err);
    close_client(ctl);
    text_release(&ctl->out);
    return st;
}

static enum status ctl_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                            struct error *err)
{
    const char **positional = mem_alloc((size_t)argc + 1, sizeof(*positional));
    struct ctl ctl = {.count = 10, .timeout_s = 5};
    const struct command *command;
    enum option_outcome outcome;
    enum status st = positional ? STATUS_OK : error_nomem(err);
    const struct option_row rows[] = {
        {"run", 0, OPTION_STRING, &ctl.run, "NAME", NULL,
         "peek, save: of which run; not needed where there is one"},
        {"tag", 0, OPTION_STRING, &ctl.tag, "TAG", NULL, "save: the name of the state"},
        {"count", 'k', OPTION_U64, &ctl.count, "N", NULL, "peek: how many samples (10)"},
        {"timeout", 0, OPTION_DOUBLE, &ctl.timeout_s, "S", NULL, "of all it does, in seconds (5)"},
        {"server-key", 0, OPTION_STRING, &ctl.server_key, "FILE|Z85", NULL,
         "CURVE: the sidecar's public key"},
        {"key", 0, OPTION_STRING, &ctl.secret_key, "FILE", NULL, "CURVE: our secret key"},
        {"json", 0, OPTION_FLAG, &ctl.json, NULL, NULL, "print the reply as JSON"},
        {0},
    };

    if (!st)
        st = options_parse(cli, verb, rows, argc, argv, positional, 2, 2, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        command = find_command(positional[1], err);
        st = command ? cli_start(cli, err) : STATUS_INVALID;
        ctl.endpoint = positional[0];
        if (!st)
            st = run_command(command, &ctl, err);
    }
    mem_free(positional);
    return st;
}

const struct verb verb_ctl = {
    .name = "ctl",
    .usage = "ENDPOINT ping|stats|peek|save|drain|shutdown [--run NAME] [--tag TAG] [-k N] "
             "[--timeout S] [--server-key FILE|Z85 --key FILE] [--json]",
    .summary = "talk to a running sidecar",
    .run = ctl_verb,
};
