"""The Ray cluster of a command: one that is there, or a private one for as long as it runs."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import services as ray_services
from ray._private import utils as ray_utils
from ray.job_config import JobConfig

from ..configs.errors import KVLError

# Rollouts are a few kilobytes each and weights do not pass through Ray.
_LOCAL_OBJECT_STORE_BYTES = 256 * 2**20
# More than the cores of a small machine: actors there take turns rather than wait forever.
_LOCAL_CPUS = 8
# Ray gives up on its own start after 30 s, which a busy machine may take; once more, then.
_STARTS = 2


class WorkerError(KVLError):
    """A rollout worker died or could not start; the run can be resumed from its checkpoint."""


@contextmanager
def connect() -> Iterator[None]:
    """Join the Ray cluster that is there (a job's, RAY_ADDRESS, or a head on this machine), or
    run a private one until the block ends. Nested use changes nothing."""
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {
        "logging_level": "ERROR",
        "configure_logging": True,
        "job_config": _WithoutWorkingDirectory(),
    }
    try:
        with _own_sigterm_handler():
            if (address := _running_cluster()) is not None:
                _join(address, quiet)
            else:
                _start(quiet)
        yield
    finally:
        # Also after a signal in the middle of the start: what has started goes.
        ray.shutdown()


def _join(address: str, quiet: dict[str, Any]) -> None:
    """Raises WorkerError in a line, with what to do, for whatever Ray says in its own way."""
    try:
        ray.init(address=address, **quiet)
    except Exception as error:
        said = " ".join(str(error).split())
        fix = "start it again, or unset RAY_ADDRESS to run on this machine alone"
        if "uthentication" in type(error).__name__ + said or "token" in said:
            fix = "set RAY_AUTH_MODE=token and give its token (RAY_AUTH_TOKEN or ~/.ray/auth_token)"
        elif "ersion" in said:
            fix = "the cluster needs this project's own Python and Ray"
        raise WorkerError(
            f"the Ray cluster at RAY_ADDRESS={address} cannot be joined "
            f"({said[:200] or type(error).__name__}); {fix}"
        ) from error


def _start(quiet: dict[str, Any]) -> None:
    for attempt in range(_STARTS):
        try:
            ray.init(
                address="local",
                num_cpus=max(_LOCAL_CPUS, os.cpu_count() or 1),
                object_store_memory=_LOCAL_OBJECT_STORE_BYTES,
                include_dashboard=False,
                **quiet,
            )
            return
        except Exception as error:  # Ray has types of its own for a start that takes too long
            ray.shutdown()
            if attempt == _STARTS - 1:
                raise WorkerError(
                    f"Ray could not start on this machine, tried {_STARTS} times: "
                    f"{' '.join(str(error).split())[:300]}; is it very busy, or out of memory?"
                ) from error


class _WithoutWorkingDirectory(JobConfig):
    """Ray puts the directory that a command was started in on the import path of its workers,
    where a folder of the user's that is called `datasets` hides the package. Not that of a job
    with a working_dir of its own."""

    def _runtime_env_has_working_dir(self) -> bool:
        return True


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Keep the command's handler, also while Ray starts, when a signal may come.

    Ray sets one in Python that exits without a word and, underneath it, one in C that prints a C++
    stack and aborts. Until both are replaced SIGTERM waits, in this thread and in those that start
    meanwhile: raised in the middle of Ray's start it would get lost now and then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler, set_handler = signal.getsignal(signal.SIGTERM), ray_utils.set_sigterm_handler
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ray_utils.set_sigterm_handler = lambda _handler: None
    ray_services.ConsolePopen = _Interruptible
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = set_handler
        ray_services.ConsolePopen = _Interruptible.__base__
        signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Interruptible(ray_services.ConsolePopen):
    """A process of Ray's that does not inherit that SIGTERM waits: Ray ends it by one."""

    def __init__(self, *arguments: Any, preexec_fn: Callable[[], Any], **options: Any) -> None:
        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            preexec_fn()

        super().__init__(*arguments, preexec_fn=prepare, **options)


def _running_cluster() -> str | None:
    """The cluster of RAY_ADDRESS, else the head that `ray start` last started here, if it lives.

    Not Ray's own "auto": it would also join the private cluster of another run on this machine,
    which ends with that run. Raises WorkerError if nothing answers at RAY_ADDRESS.
    """
    named = os.environ.get("RAY_ADDRESS", "").strip()
    if named == "local":
        return None
    if named.startswith("ray://"):
        raise WorkerError(
            f"RAY_ADDRESS={named}: is for Ray's client, which this program does not use; name the "
            "head's own host:port, or submit a job (README)"
        )
    if named and named != "auto":
        host, _, port = named.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise WorkerError(
                f"RAY_ADDRESS={named}: is no address of a Ray cluster; write host:port, such as "
                "10.0.0.1:6379, or unset it"
            )
        if not _answers(named):
            raise WorkerError(
                f"RAY_ADDRESS={named}: no Ray cluster answers there; start or unset it"
            )
        return named
    noted = ray_services.find_bootstrap_address(None)
    if noted and _answers(noted):
        return noted
    if named == "auto":
        raise WorkerError(
            "RAY_ADDRESS=auto: no Ray cluster runs on this machine; start one (ray start --head), "
            "or unset it"
        )
    return None


def _answers(address: str) -> bool:
    """Whether something listens there; Ray itself would try for minutes and then exit."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True
