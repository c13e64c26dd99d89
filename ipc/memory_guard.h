/*
 * ipc/memory_guard.h - when to stop reading, and when to throw connections away.
 *
 * No option of libzmq bounds a multipart message that never ends: its frames are held where neither
 * a limit nor we can see them. So the process looks at its own size. Above 3/4 of the limit it
 * stops reading; above 9/10 the ROUTER is closed, which frees all that peers have piled up, and
 * bound again. That is safe because every request may be repeated.
 *
 * What is left after that is not the peers': the model, the state. When this floor is high, both
 * thresholds move up between it and the limit, as stopping for ever would be worse. Pure but for
 * memory_resident(); one thread.
 */
#ifndef IPC_MEMORY_GUARD_H
#define IPC_MEMORY_GUARD_H

#include <stdint.h>

struct memory_guard {
    uint64_t limit, floor;
    double paused_at;   /* since when nothing is read; 0: reading */
    double recycled_at; /* 0: never */
};

enum memory_verdict {
    MEMORY_READ,
    MEMORY_PAUSE,
    MEMORY_RECYCLE,
};

/* Resident bytes of this process; 0 when the system does not tell. */
uint64_t memory_resident(void);

/* `limit` 0: always MEMORY_READ. */
void memory_guard_init(struct memory_guard *guard, uint64_t limit);

/*
 * `queued`: bytes of requests that lanes work on, which go away by themselves; a pause that lasts
 * although there are none ends in MEMORY_RECYCLE too. Seconds of any clock that began before.
 */
enum memory_verdict memory_guard_judge(struct memory_guard *guard, uint64_t resident,
                                       uint64_t queued, double now);

/* After MEMORY_RECYCLE was obeyed, when memory had time to come back. */
void memory_guard_recycled(struct memory_guard *guard, uint64_t resident, uint64_t queued,
                           double now);

#endif
