/*
 * ipc/metrics.h - figures for Prometheus: GET /metrics and GET /healthz over HTTP.
 *
 * The only file that knows libmicrohttpd. It reads nothing but the request line and answers from a
 * thread of its own: at most a few connections, each for seconds, each within 16 KiB. There is no
 * authentication; what can be reached from elsewhere can be read from elsewhere.
 */
#ifndef IPC_METRICS_H
#define IPC_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

struct metrics_config {
    const char *listen; /* "127.0.0.1:9464", "[::1]:9464", "localhost:9464"; port 0: any */
    /* Both run on the endpoint's thread, one at a time. `print` writes the families, by
     * metrics_family() and metrics_value(); `healthy` NULL: always. */
    void (*print)(void *context, struct text *out);
    bool (*healthy)(void *context);
    void *context;
    struct log *log; /* a warning where others than this host can read; may be NULL */
};

struct metrics;

/*
 * Listens and answers from then on; needs nothing of `config` but the callbacks afterwards.
 * STATUS_INVALID: `listen` is not an address (names are not looked up); STATUS_IO: it is not ours
 * or taken. Messages begin with "metrics.listen".
 */
MUST_CHECK
enum status metrics_open(struct metrics **metrics, const struct metrics_config *config,
                         struct error *err);
void metrics_close(struct metrics *metrics); /* ends the thread; accepts NULL */

uint16_t metrics_port(const struct metrics *metrics);

/* The text format 0.0.4. A family comes once, its values right behind it. */
enum metrics_type {
    METRICS_COUNTER, /* `name` ends in _total */
    METRICS_GAUGE,
    METRICS_SUMMARY, /* values are `name`_sum and `name`_count */
};

void metrics_family(struct text *text, const char *name, const char *help, enum metrics_type type);

/* `labels`: name, value, name, value, ..., NULL; or NULL. Values of labels may hold anything. */
void metrics_value(struct text *text, const char *name, const char *const *labels, double value);

#endif
