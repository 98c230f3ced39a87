"""One command in a run folder, whoever was there before."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kvl.configs.errors import FileError, KVLError
from kvl.run_files.lock import LOCK_FILE, locked

HOLD = "import sys, time; from pathlib import Path; from kvl.run_files.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)\n"


def holder(run_dir: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run_dir)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_command_is_told_who_works_there_and_a_kill_frees_the_folder(
    tmp_path: Path,
) -> None:
    process = holder(tmp_path / "run")
    try:
        with (
            pytest.raises(KVLError, match=rf"process {process.pid} on {os.uname().nodename}"),
            locked(tmp_path / "run"),
        ):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with locked(tmp_path / "run"):
        pass


def test_a_note_of_a_dead_process_on_another_host_does_not_block(tmp_path: Path) -> None:
    note = '{"pid": 1, "host": "elsewhere", "since": "2026-01-01 00:00:00"}'
    (tmp_path / LOCK_FILE).write_text(note)
    with locked(tmp_path):
        pass


def test_a_file_system_without_locks_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked(tmp_path):
        pass
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="Not a directory"), locked(tmp_path / "file" / "run"):
        pass
