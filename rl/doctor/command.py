"""`kvl-rl doctor`: every check at once, each with a limit, as a table or JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from . import checks, probes
from .checks import Check

# More than the longest probe may take, so that it says itself what it waited for.
SECONDS = probes.STACK_SECONDS + 10
_SIGNS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}


def doctor(as_json: bool) -> bool:
    """Prints what was found; whether nothing keeps a run from working."""
    found = look(all_checks())
    sound = not any(one.state == "problem" for one in found)
    if as_json:
        listed = [dataclasses.asdict(one) for one in found]
        print(json.dumps({"ok": sound, "checks": listed}, indent=2, ensure_ascii=False))
    else:
        show(found)
    return sound


def all_checks() -> dict[str, Callable[[], list[Check]]]:
    """What is looked at, by name; a probe that several need makes them one."""
    return {
        "Python": lambda: [checks.python(sys.version_info[:3])],
        "packages": lambda: [checks.packages(probes.requirements(), probes.distributions())],
        "torch and vLLM": _stack,
        "memory": lambda: [checks.memory(**probes.memory())],
        "/dev/shm": _shared_memory,
        "disk": lambda: [checks.disk("disk", str(Path.cwd()), **probes.space(Path.cwd()))],
        "Ray's folder": lambda: [
            checks.ray_folder(str(probes.ray_folder()), **probes.space(probes.ray_folder()))
        ],
        "Ray": _ray,
        "ports": _ports,
    }


def look(todo: Mapping[str, Callable[[], list[Check]]], seconds: float = SECONDS) -> list[Check]:
    """All at once, in threads that nobody waits for longer than `seconds`: a disk or a name
    server that hangs cannot be interrupted."""
    results: dict[str, list[Check]] = {}

    def run(name: str, check: Callable[[], list[Check]]) -> None:
        try:
            results[name] = check()
        except Exception as error:  # whatever a broken machine says
            said = " ".join(str(error).split()) or type(error).__name__
            fix = "look at what it names; the run will need it"
            results[name] = [Check(name, "problem", f"cannot be looked at: {said[:200]}", fix)]

    threads = {
        name: threading.Thread(target=run, args=(name, check), daemon=True)
        for name, check in todo.items()
    }
    for thread in threads.values():
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads.values():
        thread.join(max(0.0, end - time.monotonic()))
    late = "is it on a network disk that does not answer?"
    return [
        check
        for name in todo
        for check in results.get(name)
        or [Check(name, "problem", f"no answer within {seconds:g} s", late)]
    ]


def show(found: list[Check]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True)
    width = max(len(one.name) for one in found)
    for one in found:
        sign, colour = _SIGNS[one.state]
        console.print(Text(f"{sign} ", colour) + Text(f"{one.name:{width}}  {one.found}", "none"))
        if one.fix:
            console.print(Text(f"  {'':{width}}  → {one.fix}", colour))
    counts = [sum(one.state == state for one in found) for state in ("problem", "warning")]
    if not any(counts):
        console.print("nothing is wrong")
    else:
        console.print(f"{counts[0]} to mend, {counts[1]} to know about")


def _stack() -> list[Check]:
    installed = probes.distributions()
    stack = probes.stack(installed)
    return [
        checks.torch(stack, installed, probes.driver()),
        checks.unwanted(installed, stack),
        checks.engine(probes.engine_plugins(), installed, stack),
    ]


def _shared_memory() -> list[Check]:
    path = Path("/dev/shm")
    space = probes.space(path)
    usable = path.is_dir() and space["writable"]
    return [checks.shared_memory(space["size"] if usable else None, space["free"])]


def _ray() -> list[Check]:
    address, named = probes.ray_address()
    answers = bool(address) and not checks.address_fault(address) and probes.answers(address)
    ours = {
        "ray_version": probes.distributions().get("ray", "not installed"),
        "python_version": platform.python_version(),
    }
    cluster = probes.cluster(address) if address and answers else {}
    mode = os.environ.get("RAY_AUTH_MODE", "")
    return [checks.ray(address, named, answers, cluster, ours, probes.ray_token(), mode)]


def _ports() -> list[Check]:
    address, _ = probes.ray_address()
    cluster = bool(address) and not checks.address_fault(address) and probes.answers(address)
    return [
        checks.ports(probes.loopback_fault(), probes.host_fault(), probes.taken_ports(), cluster)
    ]
