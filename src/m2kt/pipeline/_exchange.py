"""Exchange of two directories in one system call, so that at no moment either name is missing."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_RENAME_SWAP = 2  # sys/stdio.h of macOS


def exchange(a: Path, b: Path) -> None:
    """Exchanges the directories at two paths of one file system.

    Raises:
        OSError: the system or the file system cannot do it, or a path is missing; nothing was moved.
    """
    libc = None if sys.platform == "win32" else ctypes.CDLL(None, use_errno=True)
    x, y = os.fsencode(a), os.fsencode(b)
    if libc is not None and sys.platform == "linux" and hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, x, _AT_FDCWD, y, _RENAME_EXCHANGE)
    elif libc is not None and sys.platform == "darwin":
        failed = libc.renamex_np(x, y, _RENAME_SWAP)
    else:
        raise OSError(errno.ENOTSUP, "this system cannot exchange two directories in one step", str(b))
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(b))
