"""Memory that a program frees and needs again at every step, kept for it by the C library."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def keep_freed_memory() -> bool:
    """From here on, CPU memory that this process frees stays its own; False where the C library is not GNU's.

    A training step frees and asks again for hundreds of megabytes of gradients and activations. By default every large
    tensor is memory that the system has to clear first, page by page, and that is given back after use. The setting is
    the whole process's and lasts: it is for programs to choose, and importing this package does not.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
