"""One process of a plugin, seen from the run: every wait ends, and nothing outlives the run."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ...configs.base import SettingsError
from ...configs.reward_entry import RewardEntry
from ..builtin import BUILTIN
from .plugin_worker import Answer, Loaded, LoadRequest, NotLoaded, load
from .returned import Crash, Value, one_line

# To import and construct a plugin; importing torch alone takes several seconds.
LOAD_SECONDS = 120.0
MEMORY_GIB = 8.0
_TRANSFER_SECONDS = 30.0
_END_SECONDS = 15.0
_HOST = Path(__file__).with_name("plugin_host.py")


def check_reward(entry: RewardEntry) -> None:
    """Raises `ValueError` if there is no such reward or its settings do not fit."""
    import_from = None if entry.import_from is None else str(entry.import_from)
    found = describe(entry.type, entry.settings, import_from, entry.memory_gib)
    if isinstance(found, NotLoaded):
        if found.problems:
            raise SettingsError(found.problems)
        raise ValueError(found.reason)


class PluginProcess:
    """A plugin in a process of its own, started anew by `load` whenever it is not there.

    For one thread at a time; `close` may come from any other.
    """

    def __init__(self, request: LoadRequest, memory_gib: float, load_seconds: float) -> None:
        self._request = request
        self._memory_bytes = int(memory_gib * 2**30)
        self._load_seconds = load_seconds
        self._lock = threading.Lock()
        self._closed = False
        self._host: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def load(self) -> Loaded | NotLoaded:
        """Start the process and wait until the plugin is there or cannot be."""
        self.stop()
        name = self._request.type
        try:
            connection = self._start()
        except (OSError, RuntimeError) as error:
            return NotLoaded(f"reward {name}: no process could be started ({error})")
        deadline = time.monotonic() + self._load_seconds
        # Not the empty entry, which stands for whatever is in the working directory.
        paths = [path for path in sys.path if path]
        if self._send((paths, self._memory_bytes)) and self._send(self._request):
            self._wait(connection, deadline)
            loaded = self._receive(connection)
            if isinstance(loaded, Loaded | NotLoaded):
                if isinstance(loaded, NotLoaded):
                    self.stop()
                return loaded
        if time.monotonic() >= deadline:
            self.stop()
            why = f"took more than {self._load_seconds:g} s to load"
        else:
            why = f"its process ended while it was loaded ({self._ending()})"
        return NotLoaded(f"reward {name}: {why}")

    def call(
        self, function: Any, arguments: tuple[Any, ...], timeout_seconds: float
    ) -> list[Value | Crash] | Crash:
        """What a function of `plugin_worker` gives for the loaded plugin; a `Crash` if the process
        did not answer in time or died, after which there is none."""
        connection = self._connection
        assert connection is not None
        deadline = time.monotonic() + timeout_seconds
        if self._send((function, arguments)):
            self._wait(connection, deadline)
            answer = self._receive(connection)
            if isinstance(answer, Answer):
                if answer.ends:
                    self.stop()
                return answer.results
        if time.monotonic() >= deadline:
            self.stop()
            return Crash(f"killed after {timeout_seconds:g} s", timed_out=True)
        return Crash("was stopped" if self._closed else f"worker died ({self._ending()})")

    @property
    def is_running(self) -> bool:
        """Whether the loaded plugin is there; it may have ended itself between two calls."""
        # It says nothing while it is idle: readable means that it is gone.
        return self._connection is not None and not wait([self._connection, self._ended()], 0)

    def close(self) -> None:
        """End the process, what it started, and the call under way."""
        with self._lock:
            self._closed = True
            host = self._host
        if host is not None:
            _end(host)

    def _start(self) -> Connection:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                # A process that stops in the middle of a message must not stop the run.
                seconds = struct.pack("ll", int(_TRANSFER_SECONDS), 0)
                ours.setsockopt(socket.SOL_SOCKET, option, seconds)
            with self._lock:
                if self._closed:
                    raise RuntimeError("it was stopped")
                self._host = subprocess.Popen(
                    # -P: no folder but those that the run itself imports from.
                    [sys.executable, "-P", _HOST, str(os.getpid()), str(theirs.fileno())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            self._connection = Connection(ours.detach())
        return self._connection

    def _send(self, message: Any) -> bool:
        assert self._connection is not None
        try:
            self._connection.send(message)
        except OSError:
            return False
        return True

    def _wait(self, connection: Connection, deadline: float) -> None:
        wait([connection, self._ended()], max(0.0, deadline - time.monotonic()))

    def _receive(self, connection: Connection) -> Any:
        """The message that is there; None if there is none or it is none of ours."""
        try:
            return connection.recv() if connection.poll() else None
        except Exception:  # cut short, or not a pickle: the plugin got hold of the connection
            return None

    def _ended(self) -> int:
        """What becomes readable when the process has ended: the host's output."""
        assert self._host is not None
        assert self._host.stdout is not None
        return self._host.stdout.fileno()

    def _ending(self) -> str:
        """How the process ended by itself."""
        text = b""
        if wait([self._ended()], _END_SECONDS):
            with suppress(OSError):
                text = os.read(self._ended(), 100)
        self.stop()
        return one_line(text.decode(errors="replace")) or "killed"

    def stop(self) -> None:
        """End the process; for the thread that uses it."""
        with self._lock:
            host, self._host = self._host, None
            connection, self._connection = self._connection, None
        if host is not None:
            _end(host)
            assert host.stdout is not None
            host.stdout.close()
        if connection is not None:
            connection.close()


def _end(host: subprocess.Popen[bytes]) -> None:
    """The host kills everything once its input ends; it is killed itself if it does not."""
    assert host.stdin is not None
    with suppress(OSError):
        host.stdin.close()
    try:
        host.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        host.kill()
        host.wait()


def describe(
    name: str,
    settings: Mapping[str, Any] | None = None,
    import_from: str | None = None,
    memory_gib: float = MEMORY_GIB,
) -> Loaded | NotLoaded:
    """What a reward is, and whether the settings fit if any are given.

    A plugin is imported in another process, where it may exit, crash or hang; it is not made.
    """
    request = LoadRequest(name, settings, import_from, make=False)
    if name in BUILTIN:
        return load(request)[0]
    process = PluginProcess(request, memory_gib, LOAD_SECONDS)
    try:
        return process.load()
    finally:
        process.stop()
