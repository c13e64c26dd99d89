#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/support/cmocka_headers.h"

struct pipe_log {
    struct log log;
    FILE *file;
    int reader;
    atomic_uint lost;
};

static void pipe_open(struct pipe_log *p, enum log_format format)
{
    int fds[2];

    memset(p, 0, sizeof(*p));
    assert_int_equal(pipe(fds), 0);
    p->reader = fds[0];
    assert_int_equal(fcntl(p->reader, F_SETFL, O_NONBLOCK), 0);
    p->file = fdopen(fds[1], "w");
    assert_non_null(p->file);
    log_add_sink(&p->log, (struct log_sink){.file = p->file, .format = format, .lost = &p->lost});
}

static void pipe_close(struct pipe_log *p)
{
    fclose(p->file);
    close(p->reader);
}

/* Everything in the pipe; the start of it in `text`. */
static void drain(struct pipe_log *p, char *text, size_t size)
{
    char rest[4096];
    ssize_t n = read(p->reader, text, size - 1);

    text[n > 0 ? n : 0] = '\0';
    while (read(p->reader, rest, sizeof(rest)) > 0)
        continue;
}

/* Fill the pipe, then let nobody read it. */
static void fill(struct pipe_log *p)
{
    int fd = fileno(p->file);
    char byte = 'x';

    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    while (write(fd, &byte, 1) == 1)
        continue;
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
}

static void log_writes_whole_lines(void **state)
{
    struct pipe_log p;
    char text[1000];

    (void)state;
    pipe_open(&p, LOG_FORMAT_TEXT);
    log_event(&p.log, LOG_INFO, "test", "rows=%d", 3);
    log_event(&p.log, LOG_WARNING, "test", "late");
    drain(&p, text, sizeof(text));
    assert_string_equal(text, "rows=3\nwarning: late\n");
    pipe_close(&p);
}

static void log_never_waits_for_a_full_pipe(void **state)
{
    (void)state;
    for (enum log_format format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
        struct pipe_log p;
        char text[1000];

        pipe_open(&p, format);
        fill(&p);
        log_event(&p.log, LOG_INFO, "test", "one");
        log_event(&p.log, LOG_INFO, "test", "two");
        assert_int_equal(atomic_load(&p.lost), 2);
        drain(&p, text, sizeof(text));
        log_event(&p.log, LOG_INFO, "test", "three");
        log_event(&p.log, LOG_INFO, "test", "four");
        assert_int_equal(atomic_load(&p.lost), 0);
        drain(&p, text, sizeof(text));
        if (format == LOG_FORMAT_TEXT)
            assert_string_equal(text, "three (events lost before this: 2)\nfour\n");
        else
            assert_non_null(strstr(text, "\"message\":\"three\",\"lost\":2}\n"));
        pipe_close(&p);
    }
}

static void log_loses_lines_that_a_pipe_may_not_take(void **state)
{
    struct pipe_log p;

    (void)state;
    pipe_open(&p, LOG_FORMAT_TEXT);
    log_event(&p.log, LOG_INFO, "test", "%5000d", 1);
    assert_int_equal(atomic_load(&p.lost), 1);
    /* Nobody reads any more: no signal ends the program. */
    close(p.reader);
    log_event(&p.log, LOG_INFO, "test", "anybody");
    assert_int_equal(atomic_load(&p.lost), 2);
    fclose(p.file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_writes_whole_lines),
        cmocka_unit_test(log_never_waits_for_a_full_pipe),
        cmocka_unit_test(log_loses_lines_that_a_pipe_may_not_take),
    };

    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
