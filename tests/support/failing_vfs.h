/*
 * tests/support/failing_vfs.h - SQLite on a disk, and with memory, that fail when told to.
 */
#ifndef TESTS_SUPPORT_FAILING_VFS_H
#define TESTS_SUPPORT_FAILING_VFS_H

#include <stddef.h>

enum vfs_fault {
    VFS_NONE,
    VFS_EIO,       /* the call fails, nothing is written */
    VFS_FULL,      /* half of it is written, then there is no space */
    VFS_SYNC,      /* calls are counted, but only a sync fails: the next from there on */
    VFS_KILL,      /* SIGKILL in place of the call */
    VFS_KILL_TORN, /* half of it is written, then SIGKILL */
};

/* Before anything else uses SQLite. Syncs do nothing from now on: the tests lose no power. */
void failing_vfs_install(void);

/* The n-th write, sync or truncation from now on (from 1) fails, once. */
void failing_vfs_arm(enum vfs_fault fault, size_t n);
size_t failing_vfs_calls(void); /* since it was armed */
int failing_vfs_fired(void);    /* did it fail? */

/* SQLite's own n-th allocation from now on fails, and all after it; 0: none. */
void failing_memory_arm(size_t n);
int failing_memory_fired(void);

#endif
