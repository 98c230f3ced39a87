"""The process that holds a plugin's process, and takes everything with it when it ends.

Started as a script with `python -P plugin_host.py PARENT_PID DATA_FD`. It needs nothing but the
standard library, forks the process that imports the plugin, and then only watches:

* its standard input ends or its parent is gone, also by SIGKILL: the plugin's process and all that
  it ever started is killed. Orphans come to this process, as it is their subreaper; it has a
  session of its own, so that a signal to the command's process group does not end it first.
* the plugin's process ends: what it started is killed, and how it ended is written to standard
  output, which nobody else holds.

The plugin's process dies with this one (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.5
_END_SECONDS = 10.0


def main() -> None:
    parent, data = int(sys.argv[1]), int(sys.argv[2])
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    host = os.getpid()
    plugin = os.fork()
    if plugin == 0:
        _run_plugin(host, data)
    os.close(data)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _nothing)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    ended: int | None = None
    try:
        while ended is None and os.getppid() == parent:
            ready, _, _ = select.select([sys.stdin.fileno(), woken], [], [], _POLL_SECONDS)
            if woken in ready:
                os.read(woken, 512)
            if sys.stdin.fileno() in ready:
                break
            ended = _reap(plugin)
    finally:
        _end_children()
    if ended is not None:
        with suppress(OSError):
            os.write(sys.stdout.fileno(), _how(ended).encode())


def _reap(plugin: int) -> int | None:
    """Collect ended children; the plugin's status if it is among them."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == plugin:
                return status
            if pid == 0:
                break
    return None


def _end_children() -> None:
    """Kill children until there are none: those of a killed child become this process's own."""
    deadline = time.monotonic() + _END_SECONDS
    while time.monotonic() < deadline:
        for pid in _children():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def _children() -> list[int]:
    own, found = os.getpid(), []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            # The name of the program stands in brackets and may hold anything.
            if int(file.read().rpartition(b")")[2].split()[1]) == own:
                found.append(int(name))
    return found


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _run_plugin(host: int, data: int) -> None:
    """In the child: serve the plugin; never returns."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != host:
        os._exit(1)
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when a plugin ends
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _detach()
        connection = Connection(data)
        paths, memory_bytes = connection.recv()
        sys.path[:] = paths
        from kvl.rewards.plugins.plugin_worker import serve

        serve(connection, memory_bytes)
        code = 0
    except (EOFError, OSError):  # the run is gone
        pass
    except BaseException as error:
        traceback.print_exception(error)
    finally:
        os._exit(code)  # not a plugin's exit handlers and threads


def _detach() -> None:
    """A plugin reads nothing, and its prints go where errors go: the host's pipes are no place."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _nothing(number: int, frame: FrameType | None) -> None:
    pass


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
