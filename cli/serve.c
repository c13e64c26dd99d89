/*
 * cli/serve.c - `saerl serve`: the sidecar from start to drain.
 *
 * The main thread binds and runs the I/O loop from the first moment, so that PING is answered while
 * a starter thread loads the model (or makes it, which can take as long as `saerl run`) and opens
 * the state. Only then are requests served.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/recipe_args.h"
#include "cli/serve.h"
#include "curator/curate.h"
#include "curator/inputs.h"
#include "curator/pipeline.h"
#include "ipc/memory_guard.h"
#include "ipc/metrics.h"
#include "ipc/notify.h"
#include "report/report.h"
#include "sae/sae_load.h"

#define QUEUE_BYTES ((uint64_t)256 << 20)
#define SESSION_BYTES ((uint64_t)128 << 20)
/* What peers may pile up inside libzmq before the guard acts: what arrives between two looks. */
#define TRANSPORT_BYTES ((uint64_t)512 << 20)
#define STATE_QUEUE_BYTES ((uint64_t)64 << 20)
/* Messages up to this size are kept for the next ones. */
#define HEAP_BYTES (32 << 20)
#define STUCK_S 30.0
#define DRAIN_S 10.0
#define DESCRIPTORS 16384
#define DESCRIPTORS_FEW 1024
#define DESCRIPTORS_MIN 256

/* One sidecar process: what serve.h does not need to know. */
struct sidecar {
    struct cli *cli;
    struct serve serve;
    struct recipe recipe;
    const char *recipe_path;
    const struct recipe_args *args;
    enum ledger_mode mode;
    struct socket_context *context;
    struct auth *auth;
    char secret[CURVE_KEY_TEXT_SIZE];
    struct server_handler handler;
    struct metrics *metrics;
    struct notify notify;
    int endpoint_lock;  /* 0: none */
    struct cancel hard; /* of the COMPUTE lane: draining takes too long */
    double draining_since, watchdog_at;

    pthread_t starter;
    bool starter_running;
    enum status start_status; /* read after the join */
    struct error start_error;
};

static volatile sig_atomic_t reload_wanted;

static void on_hangup(int number)
{
    (void)number;
    reload_wanted = 1;
}

/* Who else is there? The lock lives beside the socket and is held as long as the process. */
static enum status lock_endpoint(struct sidecar *s, const char *socket_path, struct error *err)
{
    char *path = text_format("%s.lock", socket_path);
    char pid[32] = "";
    ssize_t n;
    int fd;
    enum status st = STATUS_OK;

    if (!path)
        return error_nomem(err);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        st = error_set(err, STATUS_IO, "%s: %s", path, strerror(errno));
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        n = pread(fd, pid, sizeof(pid) - 1, 0);
        pid[n > 0 ? strcspn(pid, "\n") : 0] = 0;
        st = error_set(err, STATUS_CONFLICT,
                       "serve.bind: ipc://%s is served by another process (pid %s)", socket_path,
                       pid[0] ? pid : "unknown");
        close(fd);
    } else {
        s->endpoint_lock = fd;
        n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
        if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n)
            st = error_set(err, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    mem_free(path);
    return st;
}

/* The folder of the socket: made for us alone, or as the user has made it. */
static enum status prepare_ipc(struct sidecar *s, const char *path, struct error *err)
{
    char *folder = mem_strdup(path);
    struct stat info;
    char *slash;
    enum status st = STATUS_OK;

    if (!folder)
        return error_nomem(err);
    slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = 0;
        if (mkdir(folder, 0700) != 0 && errno != EEXIST)
            st = error_set(err, STATUS_IO, "serve.bind: folder '%s': %s%s", folder, strerror(errno),
                           errno == ENOENT ? "; the folder it would be made in is not there" : "");
        else if (stat(folder, &info) == 0 && (info.st_mode & 077))
            log_event(&s->cli->log, LOG_WARNING, "endpoint",
                      "%s has mode %03o: others can see who serves there (the socket itself is "
                      "0700); a folder of mode 0700 is better",
                      folder, (unsigned)(info.st_mode & 0777));
    }
    mem_free(folder);
    /* Before a lock is laid beside what is no endpoint. */
    if (!st && stat(path, &info) == 0 && !S_ISSOCK(info.st_mode))
        st = error_set(err, STATUS_INVALID, "serve.bind: '%s' is there and is no socket", path);
    return st ? st : lock_endpoint(s, path, err);
}

/* What may be reached from where, and who is let in. */
static enum status prepare_endpoint(struct sidecar *s, struct error *err)
{
    const char *bind = s->recipe.serve.bind;
    const char *secret = s->recipe.serve.curve.secret_key;
    const struct string_list *allow = &s->recipe.serve.curve.allow;
    enum endpoint_kind kind;
    enum status st = endpoint_parse(&kind, bind, err);

    if (st)
        return error_wrap(err, st, "serve.bind");
    if (kind == ENDPOINT_IPC) {
        st = prepare_ipc(s, bind + strlen("ipc://"), err);
        return st ? st : socket_context_new(&s->context, err);
    }
    if (!secret && kind == ENDPOINT_LOOPBACK && s->recipe.serve.allow_insecure_loopback) {
        s->serve.insecure = true;
        log_event(
            &s->cli->log, LOG_WARNING, "endpoint",
            "%s without CURVE (serve.allow_insecure_loopback): every user of this machine can "
            "read and write",
            bind);
        return socket_context_new(&s->context, err);
    }
    if (!secret)
        return error_set(err, STATUS_INVALID,
                         "serve.curve.secret_key: missing, %s needs CURVE (`saerl keygen` makes "
                         "keys%s)",
                         bind,
                         kind == ENDPOINT_LOOPBACK
                             ? "; serve.allow_insecure_loopback: true does without on loopback"
                             : "");
    if (allow->n == 0)
        return error_set(err, STATUS_INVALID,
                         "serve.curve.allow: empty, %s needs the public keys of its clients", bind);
    st = key_protect_process(err);
    if (!st)
        st = key_read_secret(s->secret, secret, err);
    if (st)
        return error_wrap(err, st, "serve.curve.secret_key");
    st = socket_context_new(&s->context, err);
    if (!st)
        st = auth_new(&s->auth, s->context, (const char *const *)allow->items, allow->n,
                      &s->cli->log, err);
    if (!st)
        st = auth_self_test(s->auth, s->context, s->secret, err);
    return st;
}

/* A descriptor a peer: as many as we may have. libzmq ends the process that has none left. */
static enum status raise_descriptors(const struct log *log, struct error *err)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return STATUS_OK;
    limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
    if (limit.rlim_cur < DESCRIPTORS_MIN)
        return error_set(err, STATUS_FAILED,
                         "%llu files may be open at a time (ulimit -n), the sidecar needs %d",
                         (unsigned long long)limit.rlim_cur, DESCRIPTORS_MIN);
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < DESCRIPTORS_FEW)
        log_event(log, LOG_WARNING, "descriptors",
                  "%llu files may be open at a time (ulimit -n): every connection needs one",
                  (unsigned long long)limit.rlim_cur);
    return STATUS_OK;
}

static uint64_t machine_memory(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE);
}

/* What the sidecar can come to hold, from what it holds now and what is bounded. */
static enum status check_worst_case(struct sidecar *s, struct error *err)
{
    const struct serve *serve = &s->serve;
    uint64_t resident = memory_resident();
    uint64_t work = PROTOCOL_FRAME_BYTES_MAX * 4 + serve->d_sae * 64;
    uint64_t sum = resident + QUEUE_BYTES + STATE_QUEUE_BYTES + TRANSPORT_BYTES + work;
    uint64_t allowed = s->recipe.resources.memory;

    log_event(&s->cli->log, LOG_INFO, "memory",
              "at most %llu MiB: %llu model and state as loaded, %llu requests that wait, %llu "
              "inside the transport, %llu for one request at work; about 200 bytes more for each "
              "prompt that is new",
              (unsigned long long)(sum >> 20), (unsigned long long)(resident >> 20),
              (unsigned long long)((QUEUE_BYTES + STATE_QUEUE_BYTES) >> 20),
              (unsigned long long)(TRANSPORT_BYTES >> 20), (unsigned long long)(work >> 20));
    if (allowed && sum > allowed)
        return error_set(err, STATUS_FAILED,
                         "resources.memory: the sidecar may come to hold %llu bytes, %llu are "
                         "allowed",
                         (unsigned long long)sum, (unsigned long long)allowed);
    server_set_memory_limit(serve->server, sum);
    return STATUS_OK;
}

/* The width of vectors: the SAE's, the data set's, or that of a probe. */
static enum status find_width(struct serve *serve, struct error *err)
{
    const struct model *model = &serve->model;

    serve->d_sae = serve->has_sae ? serve->sae.d_sae : model->d_sae;
    if (!serve->d_sae && model->quality_source == MODEL_SCORE_PROBE)
        serve->d_sae = model->quality.d_sae;
    if (!serve->d_sae && model->difficulty_source == MODEL_SCORE_PROBE)
        serve->d_sae = model->difficulty.d_sae;
    if (serve->d_sae)
        return STATUS_OK;
    return error_set(
        err, STATUS_INVALID,
        "sae.path: missing; without an SAE, a data set or a probe nothing says how wide "
        "a vector is");
}

static enum status load_sae(struct sidecar *s, struct error *err)
{
    struct serve *serve = &s->serve;
    enum status st;

    if (!s->recipe.sae.path)
        return STATUS_OK;
    st = sae_load(&serve->sae, s->recipe.sae.path, &s->recipe.sae.overrides, SAE_READ_ALL, err);
    if (!st)
        st = pipeline_prepare_sae(&serve->sae, &s->recipe, serve->kernels, serve->workers,
                                  &s->cli->log, err);
    if (st)
        return st;
    serve->has_sae = true;
    hash128_hex(serve->sae.hash, serve->sae_hash);
    return STATUS_OK;
}

static void on_progress(void *context, size_t done, size_t total)
{
    struct sidecar *s = context;

    server_progress(s->serve.server);
    if (server_get_state(s->serve.server) == SERVER_STARTING)
        notify_status(&s->notify, "starting: %zu of %zu samples encoded", done, total);
}

static enum status open_state(struct sidecar *s, struct error *err)
{
    struct recipe essence = inputs_essence(&s->recipe);
    struct serve *serve = &s->serve;
    struct text lock = {0};
    enum status st;

    hash128_hex(serve->model.fingerprint, serve->config_hash);
    settings_print_yaml(recipe_schema, &essence, &lock);
    st = text_check(&lock, err);
    if (!st)
        st = session_open(&serve->session,
                          &(struct session_config){.recipe = &s->recipe,
                                                   .model = &serve->model,
                                                   .state = s->recipe.serve.state,
                                                   .config_hash = serve->config_hash,
                                                   .lock = text_string(&lock),
                                                   .sae_hash = serve->sae_hash,
                                                   .mode = s->mode,
                                                   .kernels = serve->kernels,
                                                   .log = &s->cli->log},
                          err);
    text_release(&lock);
    if (st)
        return st;
    return candidates_encoder_new(&serve->encoder,
                                  &(struct candidates_encoder_config){
                                      .sae = serve->has_sae ? &serve->sae : NULL,
                                      .d_sae = serve->d_sae,
                                      .pooling = (enum pooling)s->recipe.sae.pooling,
                                      .sink_norm = s->recipe.sae.sink_norm,
                                      .reconstruct = curate_reads_reconstruction(&serve->model),
                                      .reference = session_reference(serve->session),
                                      .state = s->recipe.serve.state,
                                      .kernels = serve->kernels,
                                      .workers = serve->workers,
                                      .progress = on_progress,
                                      .progress_context = s,
                                  },
                                  err);
}

/* Everything between bound and ready. */
static enum status start(struct sidecar *s, struct error *err)
{
    struct serve *serve = &s->serve;
    double began = clock_seconds();
    enum status st = model_open(&serve->model,
                                &(struct model_config){.recipe = &s->recipe,
                                                       .state = s->recipe.serve.state,
                                                       .log = &s->cli->log,
                                                       .kernels = serve->kernels,
                                                       .workers = s->cli->workers,
                                                       .progress = on_progress,
                                                       .progress_context = s,
                                                       .render = report_html},
                                err);

    if (!st)
        st = load_sae(s, err);
    if (!st)
        st = find_width(serve, err);
    if (!st)
        st = open_state(s, err);
    if (!st)
        st = check_worst_case(s, err);
    if (st)
        return st;
    /* A request in memory that is mapped anew costs as much in page faults as in all else that is
     * done with it. What a burst leaves goes back when nobody asks (ipc/server.c). */
    mallopt(M_MMAP_THRESHOLD, HEAP_BYTES);
    mallopt(M_TRIM_THRESHOLD, HEAP_BYTES);
    serve_update_figures(serve);
    server_set_state(serve->server, SERVER_READY);
    log_event(&s->cli->log, LOG_INFO, "ready", "%s: ready after %.2f s",
              server_endpoint(serve->server), clock_seconds() - began);
    notify_status(&s->notify, "ready on %s", server_endpoint(serve->server));
    if (notify_ready(&s->notify, err))
        log_event(&s->cli->log, LOG_WARNING, "notify", "%s", err->message);
    return STATUS_OK;
}

static void *run_starter(void *context)
{
    struct sidecar *s = context;

    s->start_status = start(s, &s->start_error);
    if (s->start_status)
        server_drain(s->serve.server, 1);
    return NULL;
}

/* The recipe again: new keys are taken over, all that would change what is served is refused. */
static void reload(struct sidecar *s)
{
    struct log *log = &s->cli->log;
    struct recipe fresh = {0};
    struct text before = {0}, after = {0};
    struct recipe a, b;
    struct error err = {0};
    enum status st;

    notify_reloading(&s->notify);
    st = recipe_args_load(&fresh, s->recipe_path, s->args, &err);
    if (!st)
        st = inputs_expand(&fresh, &err);
    if (!st) {
        a = inputs_essence(&s->recipe);
        b = inputs_essence(&fresh);
        settings_print_yaml(recipe_schema, &a, &before);
        settings_print_yaml(recipe_schema, &b, &after);
        if (strcmp(text_string(&before), text_string(&after)) != 0)
            st = error_set(&err, STATUS_CONFLICT,
                           "%s changes what is served: that needs a restart with another state",
                           s->recipe_path);
        else if (strcmp(fresh.serve.bind, s->recipe.serve.bind) != 0)
            st = error_set(&err, STATUS_CONFLICT, "serve.bind: another address needs a restart");
    }
    if (!st && s->auth)
        st = auth_reload(s->auth, (const char *const *)fresh.serve.curve.allow.items,
                         fresh.serve.curve.allow.n, &err);
    if (st)
        log_event(log, LOG_ERROR, "reload", "nothing was changed: %s", err.message);
    else
        log_event(log, LOG_INFO, "reload", "%s",
                  s->auth ? "the list of keys was read again; the rest needs a restart"
                          : "there are no keys to read again; the rest needs a restart");
    text_release(&before);
    text_release(&after);
    recipe_release(&fresh);
    if (notify_ready(&s->notify, &err))
        log_event(log, LOG_WARNING, "notify", "%s", err.message);
}

/* About once a second, on the I/O thread. */
static void tick(void *context)
{
    struct sidecar *s = context;
    enum server_state state = server_get_state(s->serve.server);
    double now = clock_seconds();

    if (reload_wanted && state == SERVER_READY) {
        reload_wanted = 0;
        reload(s);
    }
    if (state == SERVER_DRAINING && s->draining_since == 0) {
        s->draining_since = now;
        notify_stopping(&s->notify);
        log_event(&s->cli->log, LOG_INFO, "drain", "no new work; what waits is finished");
    }
    if (s->draining_since > 0 && now - s->draining_since > DRAIN_S)
        atomic_store_explicit(&s->hard.signal, SIGTERM, memory_order_relaxed);
    if (s->notify.watchdog_s > 0 && now - s->watchdog_at >= s->notify.watchdog_s / 3 &&
        server_alive(s->serve.server, STUCK_S)) {
        s->watchdog_at = now;
        notify_watchdog(&s->notify);
    }
}

static void print_metrics(void *context, struct text *out)
{
    serve_print_metrics(context, out);
}

static bool is_healthy(void *context)
{
    const struct serve *serve = context;

    return server_get_state(serve->server) == SERVER_READY && server_alive(serve->server, STUCK_S);
}

static enum status open_server(struct sidecar *s, struct error *err)
{
    struct serve *serve = &s->serve;
    uint64_t memory = s->recipe.resources.memory ? s->recipe.resources.memory : machine_memory();
    enum status st;

    serve->auth = s->auth;
    s->handler = (struct server_handler){
        .context = serve, .begin = serve_begin, .handle = serve_handle, .end = serve_end};
    serve->queue_bytes = QUEUE_BYTES;
    serve->session_bytes = SESSION_BYTES;
    st = server_new(&serve->server,
                    &(struct server_config){.context = s->context,
                                            .endpoint = s->recipe.serve.bind,
                                            .handler = &s->handler,
                                            .auth = s->auth,
                                            .curve_secret = s->auth ? s->secret : NULL,
                                            .log = &s->cli->log,
                                            .memory_limit = memory,
                                            .queue_bytes = serve->queue_bytes,
                                            .session_bytes = serve->session_bytes,
                                            .cancel = s->cli->cancel,
                                            .tick = tick,
                                            .tick_context = s},
                    err);
    if (st || !s->recipe.metrics.listen)
        return st;
    serve->wants_figures = true;
    return metrics_open(&s->metrics,
                        &(struct metrics_config){.listen = s->recipe.metrics.listen,
                                                 .print = print_metrics,
                                                 .healthy = is_healthy,
                                                 .context = serve,
                                                 .log = &s->cli->log},
                        err);
}

static enum status run_loop(struct sidecar *s, struct error *err)
{
    struct sigaction action = {.sa_handler = on_hangup, .sa_flags = SA_RESTART};
    enum status st;
    int error;

    sigaction(SIGHUP, &action, NULL);
    error = pthread_create(&s->starter, NULL, run_starter, s);
    if (error)
        return error_set(err, STATUS_IO, "starting a thread: %s", strerror(error));
    s->starter_running = true;
    st = server_run(s->serve.server, err);
    pthread_join(s->starter, NULL);
    s->starter_running = false;
    if (s->start_status) {
        *err = s->start_error;
        return s->start_status;
    }
    return st;
}

static void sidecar_release(struct sidecar *s)
{
    struct serve *serve = &s->serve;

    metrics_close(s->metrics);
    server_free(serve->server);
    auth_free(s->auth);
    socket_context_free(s->context);
    key_forget(s->secret);
    candidates_encoder_free(serve->encoder);
    session_close(serve->session);
    workers_free(serve->workers);
    sae_release(&serve->sae);
    model_release(&serve->model);
    text_release(&serve->figures);
    mem_free(serve->greeted);
    pthread_mutex_destroy(&serve->figures_lock);
    pthread_mutex_destroy(&serve->reference_lock);
    notify_close(&s->notify);
    if (s->endpoint_lock)
        close(s->endpoint_lock);
    recipe_release(&s->recipe);
}

static enum status serve_recipe(struct cli *cli, const char *path, const struct recipe_args *args,
                                enum ledger_mode mode, struct error *err)
{
    struct sidecar *s = mem_zalloc(1, sizeof(*s));
    struct serve *serve;
    enum status st;

    if (!s)
        return error_nomem(err);
    serve = &s->serve;
    s->cli = cli;
    s->recipe_path = path;
    s->args = args;
    s->mode = mode;
    serve->recipe = &s->recipe;
    serve->kernels = &cli->kernels;
    serve->log = &cli->log;
    atomic_store_explicit(&serve->storage_ok, true, memory_order_relaxed);
    pthread_mutex_init(&serve->figures_lock, NULL);
    pthread_mutex_init(&serve->reference_lock, NULL);
    /* A sidecar does not wait for who reads its log. */
    for (int i = 0; i < cli->log.n_sinks; i++)
        cli->log.sinks[i].lost = &serve->log_lost;
    st = raise_descriptors(&cli->log, err);
    if (!st)
        st = recipe_args_load(&s->recipe, path, args, err);
    if (!st)
        st = cli_start_workers(cli, s->recipe.resources.threads, err);
    /* Requests are not cut off by the signal that asks to drain. */
    if (!st)
        st = workers_new(&serve->workers, workers_count(cli->workers), &s->hard, err);
    if (!st)
        st = notify_open(&s->notify, err);
    if (!st)
        st = prepare_endpoint(s, err);
    if (!st)
        st = open_server(s, err);
    if (!st)
        st = run_loop(s, err);
    sidecar_release(s);
    if (!st)
        log_event(&cli->log, LOG_INFO, "stopped", "everything is saved");
    for (int i = 0; i < cli->log.n_sinks; i++)
        cli->log.sinks[i].lost = NULL;
    mem_free(s);
    return st;
}

static enum status serve_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                              struct error *err)
{
    const char **path = mem_alloc((size_t)argc + 1, sizeof(*path));
    const char *bind = NULL, *state = NULL, *metrics = NULL;
    enum option_outcome outcome = OPTIONS_HELP;
    struct recipe_args args;
    char *quoted = NULL;
    int salvage = 0;
    enum status st = recipe_args_init(&args, argc, err);
    const struct option_row rows[] = {
        {"bind", 0, OPTION_STRING, &bind, "ADDR", NULL, "in place of serve.bind"},
        {"state", 0, OPTION_STRING, &state, "DIR", NULL, "in place of serve.state"},
        {"metrics", 0, OPTION_STRING, &metrics, "ADDR", NULL, "in place of metrics.listen"},
        {"set", 0, OPTION_REPEAT, &args.set, "a.b=v", NULL, "set a key of the recipe"},
        {"salvage", 0, OPTION_FLAG, &salvage, NULL, NULL,
         "move a damaged ledger aside and keep every row that can still be read"},
        {0},
    };

    if (!st && !path)
        st = error_nomem(err);
    if (!st)
        st = options_parse(cli, verb, rows, argc, argv, path, 1, 1, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        recipe_args_flag(&args, "serve.bind", bind, "--bind");
        recipe_args_flag(&args, "serve.state", state, "--state");
        /* Quoted: an address of IPv6 begins like a YAML list. */
        quoted = metrics ? text_format("\"%s\"", metrics) : NULL;
        if (metrics && !quoted)
            st = error_nomem(err);
        recipe_args_flag(&args, "metrics.listen", quoted, "--metrics");
    }
    if (!st && outcome == OPTIONS_GO) {
        st = cli_start(cli, err);
        if (!st)
            st = serve_recipe(cli, path[0], &args, salvage ? LEDGER_SALVAGE : LEDGER_WRITE, err);
    }
    recipe_args_release(&args);
    mem_free(quoted);
    mem_free(path);
    return st;
}

const struct verb verb_serve = {
    .name = "serve",
    .usage = "RECIPE [--bind ADDR] [--state DIR] [--metrics ADDR] [--set a.b=v] [--salvage]",
    .summary = "the ZeroMQ sidecar: scores, orders and remembers for a trainer",
    .settings = recipe_schema,
    .run = serve_verb,
};
