"""Errors a user can fix and signals that end a command: one line, never a traceback."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

USER_ERROR_EXIT = 2
CLEAN_UP_SECONDS = 10.0  # in which a second signal does not interrupt
# What the line says; the exit code is 128 + the number, as a shell reports it.
_STOPPED_BY = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
}

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
# No bug of ours: what the operating system refused wherever it was asked.
_OF_THE_SYSTEM = _FULL | _FORBIDDEN | {
    errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG, errno.EISDIR,
    errno.ENOTDIR, errno.ELOOP,
}  # fmt: skip
# How Rust (safetensors) and torch's own writer report what the operating system told them.
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")
_TORCH_WRITER = re.compile(r"PytorchStreamWriter|inline_container\.cc|iostream error")


class KVLError(ValueError):
    """Base of every error whose message names the place and the fix."""


class ConfigError(KVLError):
    """A config that cannot be used; one line per problem, each with file, field and fix."""


class CheckpointError(KVLError):
    """A checkpoint folder is missing a file or a tensor, or holds one it should not."""


class ProblemError(KVLError):
    """A problem, or a picture of one, that cannot be used."""


class FileError(KVLError):
    """A file or folder cannot be written or read; the message names it, the reason and the fix."""


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP. Whatever cleans up after Ctrl-C cleans up after these."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def user_errors() -> Iterator[None]:
    """Wraps a command: a `KVLError` becomes one red line on stderr and exit code 2.

    So does what a file system refused. Ctrl-C becomes "interrupted" and exit code 130, SIGTERM
    "terminated" and 143, SIGHUP "hung up" and 129, whatever else their interruption led to.
    KVL_DEBUG=1 shows the traceback of an error instead.
    """
    with _ended_by_signals() as received:
        try:
            yield
        except BaseException as error:
            number = received[0] if received else _signal_of(error)
            if number is not None:
                _exit_as_stopped(number)
            known = _user_error(error) if isinstance(error, Exception) else None
            if known is None or os.environ.get("KVL_DEBUG") == "1":
                raise
            for line in str(known).splitlines() or [type(known).__name__]:
                _print_line(f"error: {line}")
            raise SystemExit(USER_ERROR_EXIT) from None


@contextmanager
def _ended_by_signals() -> Iterator[list[int]]:
    """SIGTERM and SIGHUP raise `Stopped` in the main thread; the list holds the one that came.

    Others that follow at once are ignored: they would stop the cleaning up. One that comes later
    raises again, in case the first one got lost (in a destructor, say, which may not raise).
    Signals that the command was started to ignore (nohup) stay ignored.
    """
    received: list[int] = []
    since = 0.0

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal since
        now = time.monotonic()
        if not received or now - since > CLEAN_UP_SECONDS:
            since = now
            received.append(number)
            raise Stopped(number)

    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) is not signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in before.items():
            # After a stop the interpreter still ends what others registered for its exit.
            signal.signal(number, signal.SIG_IGN if received else handler)


def _signal_of(error: BaseException | None) -> int | None:
    """The signal that an error is, or that was being cleaned up after when it was raised."""
    if isinstance(error, Stopped):
        return error.number
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    return None if error is None else _signal_of(error.__context__)


def _exit_as_stopped(number: int) -> None:
    _print_line(_STOPPED_BY[signal.Signals(number)])
    raise SystemExit(128 + number) from None


def _user_error(error: Exception) -> KVLError | None:
    """The `KVLError` behind an exception, also when a Ray actor raised it."""
    error = _of_an_actor(error)
    if isinstance(error, KVLError):
        return error
    if isinstance(error, OSError) and error.errno not in _OF_THE_SYSTEM:
        return None
    if (reason := file_system_reason(error)) is None:
        return None
    path = getattr(error, "filename", None)
    return FileError(reason if path is None else f"{path}: {reason}")


def _of_an_actor(error: Exception) -> Exception:
    """What was raised in a Ray actor, where `error` is Ray's report of it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error


def file_system_reason(error: Exception) -> str | None:
    """Why the operating system refused, with a fix where there is one; None for other errors.

    Also for errors of libraries that write files by themselves and hide the OSError.
    """
    error = _of_an_actor(error)
    if isinstance(error, KVLError):
        return None  # it says all that there is to say
    text = " ".join(str(error).split())
    if isinstance(error, OSError):
        if error.errno is None:
            return text or type(error).__name__
        return os.strerror(error.errno) + _fix(error.errno)
    if (match := _RUST_ERROR.search(text)) is not None:
        return os.strerror(int(match[1])) + _fix(int(match[1]))
    if _TORCH_WRITER.search(text):
        return f"{text[:160].strip()}; is the disk full?"
    return None


def _fix(number: int) -> str:
    if number in _FULL:
        return "; free some space, or choose a place with more"
    if number in _FORBIDDEN:
        return "; choose another place, or allow it there"
    return ""


def _print_line(line: str) -> None:
    from rich.console import Console
    from rich.text import Text

    try:
        sys.stdout.flush()
        Console(stderr=True, soft_wrap=True).print(Text(line, style="red"))
    except OSError:
        # The terminal is gone. What is still buffered would fail again at exit and change its code.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
