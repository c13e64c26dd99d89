/*
 * cli/serve_metrics.c - the sidecar's figures for Prometheus (docs/operations.md lists them).
 */
#include <string.h>

#include "base/clock.h"
#include "cli/serve.h"
#include "ipc/memory_guard.h"
#include "ipc/metrics.h"

static void plain(struct text *out, const char *name, const char *help, enum metrics_type type,
                  double value)
{
    metrics_family(out, name, help, type);
    metrics_value(out, name, NULL, value);
}

static void labelled(struct text *out, const char *name, const char *label, const char *value,
                     double x)
{
    const char *const labels[] = {label, value, NULL};

    metrics_value(out, name, labels, x);
}

static double count_of(const atomic_ullong *x)
{
    return (double)atomic_load_explicit(x, memory_order_relaxed);
}

static void print_requests(const struct server_counters *c, struct text *out)
{
    metrics_family(out, "saerl_requests_total", "Requests received, by kind.", METRICS_COUNTER);
    for (unsigned kind = 0; kind < SERVER_KINDS; kind++) {
        if (protocol_kind_known(kind))
            labelled(out, "saerl_requests_total", "kind", protocol_kind_name(kind),
                     (double)c->by_kind[kind]);
    }
    metrics_family(out, "saerl_request_seconds", "Time from receipt to reply, by kind.",
                   METRICS_SUMMARY);
    for (unsigned kind = 0; kind < SERVER_KINDS; kind++) {
        if (!protocol_kind_known(kind))
            continue;
        labelled(out, "saerl_request_seconds_sum", "kind", protocol_kind_name(kind),
                 c->seconds_by_kind[kind]);
        labelled(out, "saerl_request_seconds_count", "kind", protocol_kind_name(kind),
                 (double)c->by_kind[kind]);
    }
    metrics_family(out, "saerl_errors_total", "Error replies, by code.", METRICS_COUNTER);
    for (int code = 1; code < PROTOCOL_ERROR_COUNT; code++)
        labelled(out, "saerl_errors_total", "code", protocol_error_name((enum protocol_error)code),
                 (double)c->by_error[code]);
    metrics_family(out, "saerl_dropped_total", "Messages that got no reply, by reason.",
                   METRICS_COUNTER);
    labelled(out, "saerl_dropped_total", "reason", "garbage", (double)c->dropped_garbage);
    labelled(out, "saerl_dropped_total", "reason", "user", (double)c->dropped_users);
    labelled(out, "saerl_dropped_total", "reason", "memory", (double)c->dropped_memory);
    labelled(out, "saerl_dropped_total", "reason", "reply", (double)c->dropped_replies);
    metrics_family(out, "saerl_queue_requests", "Requests in a lane, waiting or handled.",
                   METRICS_GAUGE);
    labelled(out, "saerl_queue_requests", "lane", "state", (double)c->queued[LANE_STATE]);
    labelled(out, "saerl_queue_requests", "lane", "compute", (double)c->queued[LANE_COMPUTE]);
    plain(out, "saerl_queue_bytes", "Bytes of those requests.", METRICS_GAUGE,
          (double)c->queued_bytes);
    plain(out, "saerl_received_bytes_total", "Bytes received.", METRICS_COUNTER,
          (double)c->bytes_in);
    plain(out, "saerl_sent_bytes_total", "Bytes sent.", METRICS_COUNTER, (double)c->bytes_out);
    plain(out, "saerl_recycled_total", "Times all connections were closed to save memory.",
          METRICS_COUNTER, (double)c->recycled);
    plain(out, "saerl_sessions", "Active sessions.", METRICS_GAUGE, (double)c->sessions);
    plain(out, "saerl_uptime_seconds", "Seconds since the start.", METRICS_GAUGE, c->uptime_s);
    plain(out, "saerl_resident_bytes", "Memory of this process.", METRICS_GAUGE,
          (double)memory_resident());
}

static void print_samples(const struct serve_counters *c, struct text *out)
{
    static const char *const outcomes[] = {"accepted", "duplicate", "unknown", "rejected"};

    plain(out, "saerl_samples_submitted_total", "Samples of SUBMIT.", METRICS_COUNTER,
          count_of(&c->submitted));
    plain(out, "saerl_samples_scored_total", "Samples of SCORE and CURATE.", METRICS_COUNTER,
          count_of(&c->scored));
    plain(out, "saerl_samples_encoded_total", "Samples that went through the SAE.", METRICS_COUNTER,
          count_of(&c->encoded));
    plain(out, "saerl_samples_known_total", "Samples whose vector was known already.",
          METRICS_COUNTER, count_of(&c->known));
    plain(out, "saerl_tokens_encoded_total", "Tokens that went through the SAE.", METRICS_COUNTER,
          count_of(&c->tokens));
    metrics_family(out, "saerl_samples_dropped_total",
                   "Samples of SUBMIT, SCORE and CURATE that were left out, by reason.",
                   METRICS_COUNTER);
    for (int r = 1; r < REASON_COUNT; r++)
        labelled(out, "saerl_samples_dropped_total", "reason", reason_name((enum reason)r),
                 count_of(&c->reasons[r]));
    metrics_family(out, "saerl_feedback_items_total", "Rollouts of FEEDBACK, by outcome.",
                   METRICS_COUNTER);
    for (int i = 0; i < 4; i++)
        labelled(out, "saerl_feedback_items_total", "outcome", outcomes[i],
                 count_of(&c->feedback[i]));
}

void serve_update_figures(struct serve *serve)
{
    static const struct {
        const char *name, *help;
    } families[] = {
        {"saerl_next_seq", "Next batch of a run."},
        {"saerl_prompts_seen", "Prompts of a run that have feedback."},
        {"saerl_pool_samples", "Samples that a run SUBMITted."},
        {"saerl_pass_rate", "Mean of the posterior pass rates of a run's prompts."},
    };
    double now = clock_seconds();
    struct text text = {0};
    size_t n = session_runs(serve->session);

    /* They are looked at every few seconds, and rounds come by the thousand. */
    if (!serve->wants_figures || (serve->figures_at > 0 && now - serve->figures_at < 1))
        return;
    serve->figures_at = now;
    for (size_t f = 0; f < sizeof(families) / sizeof(*families); f++) {
        metrics_family(&text, families[f].name, families[f].help, METRICS_GAUGE);
        for (size_t i = 0; i < n; i++) {
            const struct session_run_figures run = session_run(serve->session, i);
            const double values[] = {(double)run.next_seq, (double)run.prompts_seen,
                                     (double)run.pool, run.pass_rate};

            labelled(&text, families[f].name, "run", run.name, values[f]);
        }
    }
    pthread_mutex_lock(&serve->figures_lock);
    text_release(&serve->figures);
    serve->figures = text;
    pthread_mutex_unlock(&serve->figures_lock);
}

void serve_print_metrics(struct serve *serve, struct text *out)
{
    struct server_counters counters;
    struct auth_counts auth;

    server_counters(serve->server, &counters);
    print_requests(&counters, out);
    print_samples(&serve->counters, out);
    if (serve->auth) {
        auth = auth_counts(serve->auth);
        metrics_family(out, "saerl_auth_total", "Answers to connections, by outcome.",
                       METRICS_COUNTER);
        labelled(out, "saerl_auth_total", "outcome", "allowed", (double)auth.allowed);
        labelled(out, "saerl_auth_total", "outcome", "refused", (double)auth.refused);
        labelled(out, "saerl_auth_total", "outcome", "malformed", (double)auth.malformed);
    }
    plain(out, "saerl_log_lost_total", "Events that a full pipe had no room for.", METRICS_COUNTER,
          (double)atomic_load_explicit(&serve->log_lost, memory_order_relaxed));
    pthread_mutex_lock(&serve->figures_lock);
    text_append(out, text_string(&serve->figures));
    pthread_mutex_unlock(&serve->figures_lock);
}
