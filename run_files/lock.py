"""One command at a time in a run folder.

The lock is the operating system's own (flock), on a file that also says who holds it. It ends with
the process that holds it, however that ends, so nothing stale can block: not after a kill, and on
shared storage not after the loss of a host, whose locks the file server drops (NFSv4: after its
lease, about 90 s). A pid in a file could not tell a living process on another host from a dead one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..configs.errors import KVLError
from ..configs.system.files import file_errors

LOCK_FILE = ".lock"
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is made if it is missing.

    Raises KVLError naming the process that holds it, and FileError if the folder cannot be
    written. A file system without locks is told of and used without.
    """
    path = run_dir / LOCK_FILE
    with file_errors(path):
        run_dir.mkdir(parents=True, exist_ok=True)
        # Not inherited by programs that are started: only this process holds the lock.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                raise KVLError(f"{run_dir}: {_holder(descriptor)}") from None
            if error.errno not in _UNSUPPORTED:
                raise
            print(
                f"{run_dir}: this file system has no locks; start no second command in this folder",
                file=sys.stderr,
            )
        with file_errors(path):
            _note(descriptor)
        yield
    finally:
        os.close(descriptor)


def _note(descriptor: int) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(note).encode(), 0)


def _holder(descriptor: int) -> str:
    try:
        note: dict[str, Any] = json.loads(os.pread(descriptor, 4096, 0))
        who = f"process {note['pid']} on {note['host']} (since {note['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # it has just taken the lock
        who = "another process"
    return f"in use by {who}; wait until it ends, or choose another run_dir"
