/* LD_PRELOAD: the file that READ_ERROR_OF names opens, and cannot be read, as on a failing disk (EIO). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int fails(int descriptor) {
    const char *named = getenv("READ_ERROR_OF");
    char link[64], path[4096];
    if (named == NULL || *named == 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strcmp(path, named) == 0;
}

#define BROKEN(failed) if (fails(descriptor)) { errno = EIO; return failed; }

ssize_t read(int descriptor, void *to, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    if (real == NULL) real = dlsym(RTLD_NEXT, "read");
    BROKEN(-1)
    return real(descriptor, to, count);
}

ssize_t pread64(int descriptor, void *to, size_t count, off64_t place) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (real == NULL) real = dlsym(RTLD_NEXT, "pread64");
    BROKEN(-1)
    return real(descriptor, to, count, place);
}

ssize_t pread(int descriptor, void *to, size_t count, off_t place) { return pread64(descriptor, to, count, place); }

void *mmap64(void *at, size_t length, int protection, int flags, int descriptor, off64_t place) {
    static void *(*real)(void *, size_t, int, int, int, off64_t);
    if (real == NULL) real = dlsym(RTLD_NEXT, "mmap64");
    if (!(flags & MAP_ANONYMOUS)) { BROKEN(MAP_FAILED) }
    return real(at, length, protection, flags, descriptor, place);
}

void *mmap(void *at, size_t length, int protection, int flags, int descriptor, off_t place) {
    return mmap64(at, length, protection, flags, descriptor, place);
}
