"""`kvl-rl submit`: a training run as a job of a Ray cluster, from any machine."""

from __future__ import annotations

import asyncio
import os
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

from ..configs.errors import KVLError
from ..configs.job_paths import with_absolute_paths
from ..configs.loading import dump_config
from ..configs.rl import RLConfig
from ..configs.system.files import write_atomically

# Ray kills what has not ended 3 s after `ray job stop`; a run that is stopped closes its engines.
STOP_SECONDS = 30
_CONFIG_FILE = "config.yaml"
_POLL_SECONDS = 1.0


def submit(config: RLConfig, address: str | None, follow: bool) -> int:
    """Submit `kvl-rl train` with every path absolute; the config itself travels with the job.

    Returns the job's exit code if it is followed, else 0. Raises KVLError with the fix if the
    cluster cannot be reached or refuses, and if contact is lost: the job then goes on.
    """
    dashboard = dashboard_address(address)
    use_token()
    client = _client(dashboard)
    with tempfile.TemporaryDirectory() as folder:
        write_atomically(Path(folder) / _CONFIG_FILE, dump_config(with_absolute_paths(config)))
        environment = {
            "working_dir": folder,
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
        }
        command = f"kvl-rl train {_CONFIG_FILE}"
        try:
            job = client.submit_job(entrypoint=command, runtime_env=environment)
        except Exception as error:
            raise KVLError(_said(dashboard, error)) from error
    where = f"--address {shlex.quote(dashboard)} {job}"
    print(f"job {job}: run_dir {os.path.abspath(config.run_dir)}", flush=True)
    print(f"  ray job logs --follow {where}\n  ray job stop {where}", flush=True)
    if not follow:
        return 0
    try:
        return asyncio.run(_followed(client, job))
    except KeyboardInterrupt:
        print(f"job {job} goes on; end it with: ray job stop {where}", flush=True)
        raise
    except Exception as error:
        raise KVLError(
            f"{dashboard}: lost contact with job {job} ({_one_line(error)}); it goes on: "
            f"ray job logs --follow {where}"
        ) from error


def dashboard_address(given: str | None) -> str:
    """The address that jobs are submitted to. Raises KVLError for one that is none."""
    address = given or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    address = (address or "").strip().rstrip("/")
    if not address:
        raise KVLError(
            "no Ray cluster is named; add --address http://HOST:8265, the head's dashboard, or set "
            "RAY_ADDRESS"
        )
    if not address.startswith(("http://", "https://")):
        host = address.partition("://")[2] or address
        host = host.rpartition(":")[0] or host
        host = "127.0.0.1" if host in ("auto", "local") else host
        raise KVLError(
            f"{address}: jobs are submitted to the head's dashboard; write http://{host}:8265"
        )
    return address


def use_token() -> None:
    """Ray sends its token only where RAY_AUTH_MODE says so; with a token at hand it does."""
    noted = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if noted or (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def exit_code(status: str, driver_exit_code: int | None) -> int:
    """Of a job that has ended, for the command that followed it: 143 if it was stopped."""
    if status == "SUCCEEDED":
        return 0
    return driver_exit_code or (143 if status == "STOPPED" else 1)


def _client(dashboard: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(dashboard)
    except Exception as error:  # Ray's types for this are not public
        raise KVLError(_said(dashboard, error)) from error


async def _followed(client: Any, job: str) -> int:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)
    while not (info := client.get_job_info(job)).status.is_terminal():
        time.sleep(_POLL_SECONDS)
    print(f"job {job}: {info.status.value.lower()}", flush=True)
    return exit_code(info.status.value, info.driver_exit_code)


def _said(dashboard: str, error: Exception) -> str:
    said, fix = _one_line(error), "is the head running, and this its dashboard's address?"
    if "uthentication" in type(error).__name__ + said or "nauthorized" in said:
        fix = "set RAY_AUTH_MODE=token and give its token (RAY_AUTH_TOKEN or ~/.ray/auth_token)"
    return f"{dashboard}: the Ray cluster takes no job ({said[:200]}); {fix}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
