#include "ipc/memory_guard.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A pause with nothing to wait for, and the least time between two recyclings. */
#define PAUSE_S 5.0
#define COOL_S 1.0

uint64_t memory_resident(void)
{
    char text[128];
    const char *second;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd == -1)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    second = strchr(text, ' '); /* size resident shared ..., in pages */
    return second ? strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

void memory_guard_init(struct memory_guard *guard, uint64_t limit)
{
    *guard = (struct memory_guard){.limit = limit};
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Half way from the floor, and 4/5 of the way, are the plain thresholds when the floor is at half
 * the limit, and move up with it from there. */
static uint64_t pause_at(const struct memory_guard *g)
{
    return larger(g->limit / 4 * 3, g->floor + (g->limit - g->floor) / 2);
}

static uint64_t recycle_at(const struct memory_guard *g)
{
    return larger(g->limit / 10 * 9, g->floor + (g->limit - g->floor) / 5 * 4);
}

enum memory_verdict memory_guard_judge(struct memory_guard *g, uint64_t resident, uint64_t queued,
                                       double now)
{
    if (g->limit == 0 || g->floor >= g->limit || resident < pause_at(g)) {
        g->paused_at = 0;
        return MEMORY_READ;
    }
    if (g->paused_at == 0)
        g->paused_at = now;
    if (g->recycled_at != 0 && now - g->recycled_at < COOL_S)
        return MEMORY_PAUSE;
    if (resident >= recycle_at(g) || (queued == 0 && now - g->paused_at >= PAUSE_S))
        return MEMORY_RECYCLE;
    return MEMORY_PAUSE;
}

void memory_guard_recycled(struct memory_guard *g, uint64_t resident, uint64_t queued, double now)
{
    g->floor = resident > queued ? resident - queued : 0;
    g->paused_at = 0;
    g->recycled_at = now;
}
