"""Commands inside the test process, on stand-ins for what takes long to start."""

from __future__ import annotations

import io
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import psutil
import pytest

# Python starts these once in a process, for all that come.
_LASTING = ("resource_tracker", "forkserver")


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def run_inside(folder: Path, *arguments: str | Path) -> Ended:
    """A command as its script runs it, in `folder`; it must end all processes that it started."""
    program, *rest = map(str, arguments)
    (script,) = entry_points(group="console_scripts", name=program)
    main, out, err, code = script.load(), io.StringIO(), io.StringIO(), 0
    before = _children()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, *rest])
        with chdir(folder), redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
    started = _children() - before
    left = [one for one in started if one.is_running() and not _is_lasting(one)]
    assert left == [], f"{arguments} left {left}"
    return Ended(code, out.getvalue(), err.getvalue())


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def _is_lasting(process: psutil.Process) -> bool:
    return any(name in part for part in process.cmdline() for name in _LASTING)
