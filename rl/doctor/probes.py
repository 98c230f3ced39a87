"""Facts about this machine. Nothing heavy is imported in this process, and every wait has an end:
what may hang runs in a process of its own, and `command.py` leaves the others alone in time."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .checks import RAY_PORTS, UNWANTED

DISTRIBUTION = "kimi-vl-thinking"
# Imports from a cold disk; vLLM's alone takes seconds.
STACK_SECONDS = 60.0
RAY_SECONDS = 20.0
CONNECT_SECONDS = 2.0
_SHOWN = 200

_STACK = """
import importlib, json, sys
def say(**facts):
    print("\\n" + json.dumps(facts), file=out, flush=True)
out, sys.stdout = sys.stdout, sys.stderr
import torch
devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
say(torch={"version": torch.__version__, "cuda": torch.version.cuda, "devices": devices,
           "threads": torch.get_num_threads()})
for name in sys.argv[1:]:
    importlib.import_module(name)
say(others=True)
from kvl.rollouts.vllm_plugin import register
register()
say(plugin=True)
"""

_CLUSTER = """
import json, sys
from ray._common.usage import usage_lib
from ray._raylet import GcsClient
found = usage_lib.get_cluster_metadata(GcsClient(address=sys.argv[1])) or {}
print("\\n" + json.dumps({key: found.get(key) for key in ("ray_version", "python_version")}))
"""


def distributions() -> dict[str, str]:
    """Installed packages: name in lower case with hyphens → version."""
    found = {}
    for one in importlib.metadata.distributions():
        name = one.metadata["Name"]
        if name:
            found.setdefault(name.lower().replace("_", "-"), one.version)
    return found


def requirements() -> list[str] | None:
    """What the project asks for; None if it is not installed."""
    try:
        return importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None


def engine_plugins() -> list[str]:
    return [one.value for one in importlib.metadata.entry_points(group="vllm.general_plugins")]


def stack(installed: Mapping[str, str], seconds: float = STACK_SECONDS) -> dict[str, Any]:
    """What a new process finds, a stage at a time: {"torch": {"version", "cuda", "devices",
    "threads"}, "others": True, "plugin": True}, as far as it came, and "error" if not to the
    end."""
    names = [name for name in UNWANTED if name in installed]
    # As a run does it: nothing from the working directory.
    facts, error = run_python(_STACK, names, seconds)
    if error is not None:
        facts["error"] = error
    return facts


def cluster(address: str, seconds: float = RAY_SECONDS) -> dict[str, Any]:
    facts, error = run_python(_CLUSTER, [address], seconds)
    return {"error": error} if error is not None else facts


def run_python(
    code: str, arguments: Sequence[str], seconds: float
) -> tuple[dict[str, Any], str | None]:
    """The JSON objects that a Python process printed, as one, and why it failed or None.

    It is killed with all its children after `seconds`. Its output goes to files, because a pipe
    would have to be waited for.
    """
    # The kernel's own limit, in case this command is killed first.
    limit = f"import signal; signal.alarm({int(seconds) + 5})"
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"{limit}\n{code}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        error = None
        try:
            code_of = process.wait(seconds)
            if code_of:
                error = ""
        except subprocess.TimeoutExpired:
            error = f"no answer within {seconds:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)
        out.seek(0)
        err.seek(0)
        if error == "":
            lines = err.read().decode(errors="replace").strip().splitlines()
            error = lines[-1].strip()[:_SHOWN] if lines else f"it ended with code {code_of}"
        facts: dict[str, Any] = {}
        for line in out.read().decode(errors="replace").splitlines():
            with suppress(ValueError):
                if isinstance(said := json.loads(line), dict):
                    facts |= said
    return facts, error


def driver() -> str | None:
    """Version of the NVIDIA driver that the kernel has loaded."""
    with suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text()
        found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
        return found[0] if found else "of unknown version"
    return None


def memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> dict[str, Any]:
    """{"total", "available", "limit"} in bytes, of the machine and its control groups."""
    sizes = {}
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.strip().endswith("kB"):
            sizes[name] = int(rest.split()[0]) * 1024
    total, available = sizes["MemTotal"], sizes.get("MemAvailable", sizes["MemFree"])
    limit = None
    for folder in _control_groups(proc, groups):
        for most, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            with suppress(OSError, ValueError):
                # "max" is no number, and version 1 writes a huge one for no limit.
                size = int((folder / most).read_text())
                if size < total:
                    limit = min(size, limit or size)
                    # The cache of files counts as used, and is given up when it is needed.
                    free = size - int((folder / used).read_text()) + _file_cache(folder)
                    available = max(0, min(available, free))
    return {"total": total, "available": available, "limit": limit}


def _control_groups(proc: Path, groups: Path) -> list[Path]:
    """This process's own and those around it, each of which may have a limit."""
    found = [groups, groups / "memory"]
    with suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            root = groups / "memory" if "memory" in controllers.split(",") else groups
            own = root / name.lstrip("/")
            found += [own, *(one for one in own.parents if one.is_relative_to(root))]
    return list(dict.fromkeys(found))


def _file_cache(folder: Path) -> int:
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(count)
    return 0


def space(path: Path) -> dict[str, Any]:
    """{"size", "free", "writable"} of the nearest folder that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    usage = shutil.disk_usage(path)
    writable = False
    with suppress(OSError), tempfile.TemporaryFile(dir=path):
        writable = True
    return {"size": usage.total, "free": usage.free, "writable": writable}


def ray_folder() -> Path:
    return Path(os.environ.get("RAY_TMPDIR") or "/tmp/ray")


def ray_address() -> tuple[str | None, bool]:
    """The cluster that a run would join, and whether RAY_ADDRESS names it."""
    named = os.environ.get("RAY_ADDRESS", "").strip()
    if named == "local":
        return None, False
    if named and named != "auto":
        return named, True
    noted = None
    with suppress(OSError):
        folder = os.environ.get("RAY_TMPDIR")
        noted = (Path(folder) if folder else Path("/tmp/ray")) / "ray_current_cluster"
        noted = noted.read_text().strip() or None
    return noted if isinstance(noted, str) else None, False


def ray_token() -> bool:
    if os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return True
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with suppress(OSError):
        return bool(path.read_text().strip())
    return False


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with suppress(OSError, ValueError, OverflowError):
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        return True
    return False


def loopback_fault() -> str | None:
    """Why no port can be opened and reached on this machine; None if one can."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def host_fault() -> str | None:
    """Why the machine's own name leads to no address; None if it does."""
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError as error:
        return f"{socket.gethostname()}: {error.strerror or error}"
    return None


def taken_ports() -> list[int]:
    return [port for port in RAY_PORTS if answers(f"127.0.0.1:{port}")]
