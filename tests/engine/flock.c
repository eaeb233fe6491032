/* LD_PRELOAD: flock as on file systems without locks (it fails), or with locks of each machine alone (it succeeds). */
#include <errno.h>

int flock(int descriptor, int operation) {
    (void)descriptor;
    (void)operation;
#ifdef FAILS
    errno = FAILS;
    return -1;
#else
    return 0;
#endif
}
