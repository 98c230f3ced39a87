"""Errors a user can fix: shown as one line, never as a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

USER_ERROR_EXIT = 2
INTERRUPTED_EXIT = 130


class KVLError(ValueError):
    """Base of every error whose message names the place and the fix."""


class ConfigError(KVLError):
    """A config that cannot be used; one line per problem, each with file, field and fix."""


class CheckpointError(KVLError):
    """A checkpoint folder is missing a file or a tensor, or holds one it should not."""


class ProblemError(KVLError):
    """A problem, or a picture of one, that cannot be used."""


@contextmanager
def user_errors() -> Iterator[None]:
    """Wraps a command: a `KVLError` becomes one red line on stderr and exit code 2.

    Ctrl-C becomes "interrupted" and exit code 130. KVL_DEBUG=1 shows the traceback instead.
    """
    try:
        yield
    except KeyboardInterrupt:
        _print_line("interrupted")
        raise SystemExit(INTERRUPTED_EXIT) from None
    except Exception as error:
        known = _user_error(error)
        if known is None or os.environ.get("KVL_DEBUG") == "1":
            raise
        for line in str(known).splitlines() or [type(known).__name__]:
            _print_line(f"error: {line}")
        raise SystemExit(USER_ERROR_EXIT) from None


def _user_error(error: Exception) -> KVLError | None:
    """The `KVLError` behind an exception, also when a Ray actor raised it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, KVLError):
        return cause
    return error if isinstance(error, KVLError) else None


def _print_line(line: str) -> None:
    from rich.console import Console
    from rich.text import Text

    sys.stdout.flush()
    Console(stderr=True, soft_wrap=True).print(Text(line, style="red"))
