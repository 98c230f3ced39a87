from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from kvl.configs.errors import CheckpointError, ConfigError, KVLError, user_errors
from kvl.problems.types import ProblemError


class RemoteError(Exception):
    """Looks like Ray's: the actor's own exception is its `cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a wall of text\nwith a traceback")
        self.cause = cause


@pytest.mark.parametrize("error", [KVLError, ConfigError, CheckpointError, ProblemError])
def test_user_errors_are_one_line(error, capsys, monkeypatch):
    monkeypatch.delenv("KVL_DEBUG", raising=False)
    with pytest.raises(SystemExit) as caught, user_errors():
        raise error("file [x]: what is wrong, " + 120 * "long ")
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: file [x]: what is wrong")
    assert captured.err.count("\n") == 1


def test_an_actors_user_error_is_one_line(capsys, monkeypatch):
    monkeypatch.delenv("KVL_DEBUG", raising=False)
    with pytest.raises(SystemExit), user_errors():
        raise RemoteError(CheckpointError("checkpoint: no config.json"))
    assert capsys.readouterr().err == "error: checkpoint: no config.json\n"


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ValueError, match="bug"), user_errors():
        raise ValueError("bug")


def test_debug_keeps_the_traceback(monkeypatch):
    monkeypatch.setenv("KVL_DEBUG", "1")
    with pytest.raises(ConfigError), user_errors():
        raise ConfigError("x")


def test_interrupt(capsys):
    with pytest.raises(SystemExit) as caught, user_errors():
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up")],
)
def test_a_signal_ends_a_command_as_ctrl_c_does(number, code, line, capsys):
    cleaned_up = []

    def command():
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            # A second one does not stop the cleaning up, nor does what fails in it show.
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned_up.append(True)
            raise RuntimeError("the terminal is gone")

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(number, signal.SIG_DFL)
        with pytest.raises(SystemExit) as caught, user_errors():
            command()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert caught.value.code == code
    assert capsys.readouterr().err == f"{line}\n"
    assert cleaned_up


def test_handlers_are_as_before_and_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with user_errors():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert callable(signal.getsignal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_with_its_terminal_gone_keeps_its_exit_code(tmp_path):
    """As when a terminal window is closed: nothing can be written any more."""
    code = (
        "import os, signal, sys, time; from kvl.configs.errors import user_errors\n"
        "with user_errors():\n"
        "    print('buffered'); os.kill(os.getpid(), signal.SIGHUP); time.sleep(60)\n"
    )
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=full,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            # The tests themselves may run under nohup.
            preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
        )
    assert ended.returncode == 129


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/run/a"), "/run/a: No space left"),
        (OSError(errno.EACCES, "Permission denied", "/run/a"), "/run/a: Permission denied; choose"),
        (RuntimeError("I/O error: File too large (os error 27)"), "File too large; free some"),
        (RemoteError(OSError(errno.ENOSPC, "No space left on device")), "No space left on device;"),
    ],
)
def test_what_the_system_refused_is_one_line_wherever_it_was_asked(
    error, line, capsys, monkeypatch
):
    monkeypatch.delenv("KVL_DEBUG", raising=False)
    with pytest.raises(SystemExit) as caught, user_errors():
        raise error
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {line}")
    assert printed.count("\n") == 1


def test_what_fails_while_cleaning_up_after_ctrl_c_does_not_show(capsys):
    def command():
        try:
            raise KeyboardInterrupt
        finally:
            raise ConfigError("while cleaning up")

    with pytest.raises(SystemExit) as caught, user_errors():
        command()
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
