#include "tests/support/failing_vfs.h"

#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

struct file {
    sqlite3_file base;
    sqlite3_file *real; /* behind it, in the same piece of memory */
};

static sqlite3_vfs *real_vfs, our_vfs;
static sqlite3_mem_methods real_memory;

static struct {
    enum vfs_fault fault;
    size_t n, calls;
    int fired;
} disk;

static struct {
    size_t left;
    int armed, fired;
} memory;

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct file *)file)->real;
}

/* SQLITE_OK: go on with the call. */
static int count(enum vfs_fault *fault, int is_sync)
{
    disk.calls++;
    *fault = VFS_NONE;
    if (disk.fault == VFS_NONE || disk.fired || disk.calls < disk.n)
        return SQLITE_OK;
    if (disk.fault == VFS_SYNC && !is_sync)
        return SQLITE_OK;
    disk.fired = 1;
    *fault = disk.fault;
    if (disk.fault == VFS_KILL || (disk.fault == VFS_KILL_TORN && is_sync))
        kill(getpid(), SIGKILL);
    if (disk.fault == VFS_SYNC)
        return SQLITE_IOERR_FSYNC;
    return disk.fault == VFS_FULL ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}

static int vfs_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int vfs_read(sqlite3_file *file, void *bytes, int n, sqlite3_int64 offset)
{
    return real_of(file)->pMethods->xRead(real_of(file), bytes, n, offset);
}

static int vfs_write(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 offset)
{
    enum vfs_fault fault;
    int code = count(&fault, 0);

    if (fault == VFS_FULL || fault == VFS_KILL_TORN)
        real_of(file)->pMethods->xWrite(real_of(file), bytes, n / 2, offset);
    if (fault == VFS_KILL_TORN)
        kill(getpid(), SIGKILL);
    return code ? code : real_of(file)->pMethods->xWrite(real_of(file), bytes, n, offset);
}

static int vfs_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    enum vfs_fault fault;
    int code = count(&fault, 0);

    return code ? SQLITE_IOERR_TRUNCATE : real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int vfs_sync(sqlite3_file *file, int flags)
{
    enum vfs_fault fault;
    int code = count(&fault, 1);

    (void)file;
    (void)flags;
    return code ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int vfs_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int vfs_lock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int vfs_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int vfs_reserved(sqlite3_file *file, int *result)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), result);
}

static int vfs_control(sqlite3_file *file, int op, void *argument)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), op, argument);
}

static int vfs_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int vfs_characteristics(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int vfs_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **out)
{
    return real_of(file)->pMethods->xShmMap(real_of(file), region, size, extend, out);
}

static int vfs_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, n, flags);
}

static void vfs_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int vfs_shm_unmap(sqlite3_file *file, int remove)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2, /* no mmap: every write comes through here */
    .xClose = vfs_close,
    .xRead = vfs_read,
    .xWrite = vfs_write,
    .xTruncate = vfs_truncate,
    .xSync = vfs_sync,
    .xFileSize = vfs_size,
    .xLock = vfs_lock,
    .xUnlock = vfs_unlock,
    .xCheckReservedLock = vfs_reserved,
    .xFileControl = vfs_control,
    .xSectorSize = vfs_sector,
    .xDeviceCharacteristics = vfs_characteristics,
    .xShmMap = vfs_shm_map,
    .xShmLock = vfs_shm_lock,
    .xShmBarrier = vfs_shm_barrier,
    .xShmUnmap = vfs_shm_unmap,
};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    struct file *ours = (struct file *)file;
    int code;

    (void)vfs;
    ours->real = (sqlite3_file *)(ours + 1);
    memset(ours->real, 0, (size_t)real_vfs->szOsFile);
    code = real_vfs->xOpen(real_vfs, name, ours->real, flags, out);
    ours->base.pMethods = code == SQLITE_OK || ours->real->pMethods ? &methods : NULL;
    return code;
}

static void *failing_malloc(int n)
{
    if (memory.armed && memory.left-- <= 1) {
        memory.left = 1;
        memory.fired = 1;
        return NULL;
    }
    return real_memory.xMalloc(n);
}

static void *failing_realloc(void *p, int n)
{
    if (memory.armed && memory.left-- <= 1) {
        memory.left = 1;
        memory.fired = 1;
        return NULL;
    }
    return real_memory.xRealloc(p, n);
}

void failing_vfs_install(void)
{
    sqlite3_mem_methods ours;

    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory);
    ours = real_memory;
    ours.xMalloc = failing_malloc;
    ours.xRealloc = failing_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &ours);
    sqlite3_initialize();
    real_vfs = sqlite3_vfs_find(NULL);
    our_vfs = *real_vfs;
    our_vfs.zName = "failing";
    our_vfs.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
    our_vfs.xOpen = vfs_open;
    sqlite3_vfs_register(&our_vfs, 1);
}

void failing_vfs_arm(enum vfs_fault fault, size_t n)
{
    disk.fault = fault;
    disk.n = n;
    disk.calls = 0;
    disk.fired = 0;
}

size_t failing_vfs_calls(void)
{
    return disk.calls;
}

int failing_vfs_fired(void)
{
    return disk.fired;
}

void failing_memory_arm(size_t n)
{
    memory.armed = n > 0;
    memory.left = n;
    memory.fired = 0;
}

int failing_memory_fired(void)
{
    return memory.fired;
}
