"""The processes of one plugin reward: calls are queued for them, each with its own clock."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from queue import LifoQueue
from typing import Any

from .plugin_process import LOAD_SECONDS, PluginProcess
from .plugin_worker import Loaded, LoadRequest, NotLoaded
from .returned import Crash, Value

# A plugin that could not be loaded is tried again later, not for each of thousands of samples.
_RETRY_SECONDS = 30.0


class PluginPool:
    """`workers` processes that hold a plugin; each is started when it is needed.

    A call that runs late, or whose process dies, costs that call alone: the next one has a new
    process. `close` kills what is running.
    """

    def __init__(
        self, request: LoadRequest, workers: int, timeout_seconds: float, memory_gib: float
    ) -> None:
        self._name = request.type
        load_seconds = max(LOAD_SECONDS, timeout_seconds)
        self._processes = [PluginProcess(request, memory_gib, load_seconds) for _ in range(workers)]
        # The last one used is the one that is running.
        self._free: LifoQueue[PluginProcess] = LifoQueue()
        for process in self._processes:
            self._free.put(process)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="plugin")
        self._lock = threading.Lock()
        self._loaded: Loaded | None = None
        self._failure: NotLoaded | None = None
        self._retry_at = 0.0

    def load(self) -> Loaded | NotLoaded:
        """What the plugin is, from its first process if none has told yet. Waits for that."""
        if self._loaded is not None:
            return self._loaded
        process = self._free.get()
        try:
            return self._ready(process)
        finally:
            self._free.put(process)

    def submit(
        self, timeout_seconds: float, function: Any, *arguments: Any
    ) -> Future[list[Value | Crash] | Crash]:
        """Queue a call of a function of `plugin_worker`. Its future never raises."""
        return self._threads.submit(self._call, timeout_seconds, function, arguments)

    def close(self) -> None:
        """Kill all processes; calls under way or queued become crashes."""
        for process in self._processes:
            process.close()
        self._threads.shutdown(wait=True)
        for process in self._processes:
            process.stop()

    def _call(
        self, timeout_seconds: float, function: Any, arguments: tuple[Any, ...]
    ) -> list[Value | Crash] | Crash:
        process = self._free.get()
        try:
            if not process.is_running:
                loaded = self._ready(process)
                if isinstance(loaded, NotLoaded):
                    return Crash(loaded.reason.removeprefix(f"reward {self._name}: "))
            return process.call(function, arguments, timeout_seconds)
        except Exception as error:
            return Crash(f"its process could not be used ({type(error).__name__}: {error})")
        finally:
            self._free.put(process)

    def _ready(self, process: PluginProcess) -> Loaded | NotLoaded:
        """Load the plugin into a process, unless that failed a moment ago."""
        with self._lock:
            if self._failure is not None and time.monotonic() < self._retry_at:
                return self._failure
        started = time.monotonic()
        loaded = process.load()
        with self._lock:
            if isinstance(loaded, Loaded):
                self._loaded, self._failure = loaded, None
            else:
                now = time.monotonic()
                # A plugin that hangs in its import takes a third of a run's time at most.
                self._failure = loaded
                self._retry_at = now + max(_RETRY_SECONDS, 2 * (now - started))
        return loaded
