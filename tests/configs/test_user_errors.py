from __future__ import annotations

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
