/* LD_PRELOAD: what befalls a process at the n-th call that changes files in a folder.

   Calls that change files are: open for writing, write, sync, truncate, rename, link, make a folder. They are counted
   from when `arm` is called; that of the number `nth` is where it happens:

   'o'  the call fails with `value` (an errno), and it alone
   'f'  it and all later ones fail with `value`, as on a disk that is full, broken or read-only
   'v'  the folder is away from then on (it is renamed, to be brought back)
   's'  the process gets the signal `value` before the call
   'c'  the clock jumps by `value` seconds

   `calls` tells how many there were. And `lock_by` says what flock does: as on file systems without locks it fails
   with an errno, or with 0 it succeeds, as where each machine has locks of its own. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static char folder[PATH_MAX];
static size_t length;
static long nth, value, jumped;
static char what;
static int locks = -1;
static atomic_long counted;

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

void arm(const char *where, char kind, long number, long of) {
    what = kind, nth = number, value = of, jumped = 0;
    atomic_store(&counted, 0);
    snprintf(folder, sizeof folder, "%s", where);
    length = strlen(folder);
}

long calls(void) { return atomic_load(&counted); }

void lock_by(int error) { locks = error; }

int flock(int descriptor, int operation) {
    REAL(flock);
    if (locks < 0) return real(descriptor, operation);
    errno = locks;
    return locks ? -1 : 0;
}

static int lies_in(const char *path) { return length && !strncmp(path, folder, length) && strchr("/", path[length]); }

static int happens(void) {
    long call = atomic_fetch_add(&counted, 1) + 1;
    if (what == 'f' && call >= nth) return errno = value, 1;
    if (call != nth) return 0;
    if (what == 'o') return errno = value, 1;
    if (what == 's') kill(getpid(), value);
    if (what == 'c') jumped = value;
    if (what == 'v') {
        char away[PATH_MAX + 8];
        snprintf(away, sizeof away, "%s.away", folder);
        REAL(rename);
        real(folder, away);
    }
    return 0;
}

/* Whether the call on `path`, as seen from the folder `at`, fails. */
static int fails(int at, const char *path) {
    char whole[2 * PATH_MAX], start[PATH_MAX] = "";
    if (!length || !path) return 0;
    if (path[0] == '/') return lies_in(path) && happens();
    if (at == AT_FDCWD) {
        if (!getcwd(start, sizeof start)) return 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t size = readlink(link, start, sizeof start - 1);
        if (size < 0) return 0;
        start[size] = 0;
    }
    snprintf(whole, sizeof whole, "%s/%s", start, path);
    return lies_in(whole) && happens();
}

static int fails_open(int descriptor) {
    char link[64], path[PATH_MAX];
    if (!length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return lies_in(path) && happens();
}

#define CHANGES (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)
#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...) {                                     \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;      \
        va_end(more);                                                                \
        if (flags & CHANGES && fails(AT_FDCWD, path)) return -1;                     \
        REAL(name);                                                                  \
        return real(path, flags, mode);                                              \
    }
#define OPENAT(name)                                                                 \
    int name(int at, const char *path, int flags, ...) {                             \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;      \
        va_end(more);                                                                \
        if (flags & CHANGES && fails(at, path)) return -1;                           \
        REAL(name);                                                                  \
        return real(at, path, flags, mode);                                          \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

#define ON_FILE(type, name, parameters, ...)                                         \
    type name parameters {                                                           \
        if (fails_open(descriptor)) return -1;                                       \
        REAL(name);                                                                  \
        return real(__VA_ARGS__);                                                    \
    }
ON_FILE(ssize_t, write, (int descriptor, const void *data, size_t size), descriptor, data, size)
ON_FILE(ssize_t, writev, (int descriptor, const struct iovec *data, int count), descriptor, data, count)
ON_FILE(ssize_t, pwrite, (int descriptor, const void *data, size_t size, off_t at), descriptor, data, size, at)
ON_FILE(ssize_t, pwrite64, (int descriptor, const void *data, size_t size, off_t at), descriptor, data, size, at)
ON_FILE(int, fsync, (int descriptor), descriptor)
ON_FILE(int, fdatasync, (int descriptor), descriptor)
ON_FILE(int, ftruncate, (int descriptor, off_t size), descriptor, size)
ON_FILE(int, ftruncate64, (int descriptor, off_t size), descriptor, size)

#define ON_PATH(name, at, path, parameters, ...)                                     \
    int name parameters {                                                            \
        if (fails(at, path)) return -1;                                              \
        REAL(name);                                                                  \
        return real(__VA_ARGS__);                                                    \
    }
ON_PATH(rename, AT_FDCWD, to, (const char *from, const char *to), from, to)
ON_PATH(renameat, new, to, (int old, const char *from, int new, const char *to), old, from, new, to)
ON_PATH(link, AT_FDCWD, to, (const char *from, const char *to), from, to)
ON_PATH(linkat, new, to, (int old, const char *from, int new, const char *to, int flags), old, from, new, to, flags)
ON_PATH(mkdir, AT_FDCWD, path, (const char *path, mode_t mode), path, mode)
ON_PATH(mkdirat, at, path, (int at, const char *path, mode_t mode), at, path, mode)

int clock_gettime(clockid_t which, struct timespec *now) {
    REAL(clock_gettime);
    int code = real(which, now);
    if (which == CLOCK_REALTIME) now->tv_sec += jumped;
    return code;
}
