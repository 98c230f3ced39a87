"""A command as a user starts it: a process of its own, watched so that none is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

BIN = Path(sys.executable).parent
HANG_SECONDS = 300.0  # a guard against hangs, not an expectation
_WORKER_LINE = re.compile(r"^(\x1b\[\d+m)?\([^)]*pid=\d+[^)]*\)")


class Command:
    """A running command in a process group and a Ray folder of its own."""

    def __init__(
        self, arguments: Sequence[str | Path], cwd: Path, ray_folder: Path, **environment: str
    ) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self.mark = uuid.uuid4().hex
        self.ray_folder = ray_folder
        self._output = Path(tempfile.mkdtemp(dir=ray_folder))
        self._seen: dict[int, psutil.Process] = {}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        # Output goes to files: a process left behind would hold a pipe open.
        with (self._output / "out").open("w") as out, (self._output / "err").open("w") as err:
            self.process = subprocess.Popen(
                [str(BIN / self.arguments[0]), *self.arguments[1:]],
                preexec_fn=_as_from_a_terminal,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env={
                    **kept,
                    "PATH": f"{BIN}:{os.environ['PATH']}",
                    "RAY_TMPDIR": str(ray_folder),
                    "KVL_TEST_MARK": self.mark,
                    **environment,
                },
            )

    @property
    def stdout(self) -> str:
        return (self._output / "out").read_text()

    @property
    def stderr(self) -> str:
        return (self._output / "err").read_text()

    @property
    def own_stderr(self) -> list[str]:
        """Its lines on stderr without those that Ray forwards from its workers."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return [line for line in lines if not _WORKER_LINE.match(line)]

    def wait(self) -> Command:
        """Until it ends; a hang fails the test and ends every process of the command."""
        self.wait_until(lambda: self.process.poll() is not None)
        return self

    def wait_until(self, condition: Callable[[], Any]) -> None:
        """Until something holds that must become true before the command ends."""
        deadline = time.monotonic() + HANG_SECONDS
        while not condition():
            self._look()
            ended = self.process.poll() is not None and not condition()
            if ended or time.monotonic() > deadline:
                what = f"ended with {self.process.returncode}" if ended else "hangs"
                self.kill()
                pytest.fail(f"{self.arguments} {what}\n{self.stdout}\n{self.stderr}")
            time.sleep(0.02)

    def signal(self, number: int, *, group: bool = False) -> None:
        self._look()
        (os.killpg if group else os.kill)(self.process.pid, number)

    def kill(self) -> None:
        """End whatever is left of it."""
        self._look()
        for one in self._alive():
            one.kill()
        self.process.wait()

    def left_over(self, grace_seconds: float = 30.0, besides: tuple[str, ...] = ()) -> list[str]:
        """The processes of the command that still live after the grace period; they are ended.
        Those whose title starts as one of `besides` are left out and left alone."""
        deadline = time.monotonic() + grace_seconds
        while (alive := self._alive(besides)) and time.monotonic() < deadline:
            time.sleep(0.2)
        described = [f"{one.pid} {_title(one)}" for one in alive]
        for one in alive:
            one.kill()
        return described

    def has_started(self, program: str) -> bool:
        return any(program in _title(one) for one in self._seen.values())

    @property
    def weight_files(self) -> list[Path]:
        """Weights in shared memory that processes of this command wrote and nobody removed."""
        return [
            path for pid in self._seen for path in Path("/dev/shm").glob(f"kvl-weights-{pid}-*")
        ]

    def _look(self) -> None:
        try:
            own = psutil.Process(self.process.pid)
            for one in (own, *own.children(recursive=True)):
                self._seen.setdefault(one.pid, one)
        except psutil.NoSuchProcess:
            pass

    def _alive(self, besides: tuple[str, ...] = ()) -> list[psutil.Process]:
        """Descendants seen while it ran, and all that carry its mark or its Ray folder."""
        found = {one.pid: one for one in self._seen.values() if _lives(one)}
        for one in psutil.process_iter():
            if one.pid not in found and _lives(one) and self._is_marked(one):
                found[one.pid] = one
        return [one for one in found.values() if not _title(one).startswith(besides)]

    def _is_marked(self, process: psutil.Process) -> bool:
        try:
            if process.environ().get("KVL_TEST_MARK") == self.mark:
                return True
        except (psutil.Error, OSError):
            pass
        return f"{self.ray_folder}/" in _title(process)


def _as_from_a_terminal() -> None:
    """A shell that runs the tests in the background, or nohup, ignores these for all children."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return ""
