"""Resolve `requirements/cpu.lock` and `requirements/cuda.lock` again (`make lock`).

Asks pip for the newest versions that pyproject.toml's ranges and extras allow together, for
Python 3.11 on x86-64 Linux, and installs nothing: a dry run reads metadata only, so the CUDA lock
can be made on a machine without a GPU. The CUDA lock takes the CPU lock's versions.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent

# What the ranges leave open and the lock files do not.
PINNED = {"transformers": "5.19.0"}
TORCH_CPU = "2.13.0+cpu"
TORCH_CUDA = "2.13.0"

# Resolved but not installed on a CPU machine.
NOT_ON_CPU = {
    "torch": "comes first, from its own index",
    "torchvision": "PyPI's is a CUDA build: with CPU torch importing it takes vLLM down",
    "torchaudio": "likewise, and nothing here has sound",
    "torchcodec": "likewise, and nothing here has video",
    "triton": "1 GB; no CPU backend, vLLM's CPU build switches it off by itself",
}

# vLLM's CUDA build or CUDA torch pins these to versions of its own.
DIFFERS_ON_CUDA = ("apache-tvm-ffi", "setuptools", "triton")

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(34, 4, -1)]
PLATFORMS += [f"manylinux{name}_x86_64" for name in ("2014", "2010", "1")]

CPU_HEADER = """\
# Made by `make lock`; do not edit. Python 3.11, x86-64 Linux, install with --no-deps.
# Not listed on purpose:
"""
CUDA_HEADER = """\
# Made by `make lock`; do not edit. Python 3.11, x86-64 Linux, CUDA 13, install with --no-deps.
# Checked: pip resolved this set from the packages' metadata, at the CPU lock's versions.
# Not checked by that: installing it, and running it on a GPU.
"""


def requirements(pyproject: Mapping, extras: Iterable[str]) -> list[str]:
    """The project's dependencies with those of `extras`."""
    project = pyproject["project"]
    found = list(project["dependencies"])
    for extra in extras:
        found += project["optional-dependencies"][extra]
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve(wanted: list[str], constraints: Mapping[str, str], own_sources: bool) -> dict[str, str]:
    """Name → version of everything pip would install for `wanted`.

    own_sources  also look where this machine's pip configuration says: torch's CPU build may be
                 there, which must not be taken for the CUDA build
    """
    with tempfile.TemporaryDirectory() as folder:
        report, pins = Path(folder, "report.json"), Path(folder, "constraints.txt")
        pins.write_text("".join(f"{name}=={version}\n" for name, version in constraints.items()))
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "-qq"]
        command += ["--ignore-installed", "--no-cache-dir"]
        command += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
        command += [f"--platform={platform}" for platform in PLATFORMS]
        command += [f"--target={folder}/target", f"--report={report}", f"--constraint={pins}"]
        environment = dict(os.environ)
        if not own_sources:
            environment["PIP_CONFIG_FILE"] = os.devnull
            environment.pop("PIP_FIND_LINKS", None)
            environment.pop("PIP_EXTRA_INDEX_URL", None)
        subprocess.run([*command, *wanted], check=True, env=environment)
        installs = json.loads(report.read_text())["install"]
    metadata = [install["metadata"] for install in installs]
    return {canonical(entry["name"]): entry["version"] for entry in metadata}


def write_lock(path: Path, header: str, versions: Mapping[str, str]) -> None:
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
    path.write_text(header + "".join(lines))
    print(f"{path.relative_to(HERE.parent)}: {len(lines)} packages")


def main() -> None:
    pyproject = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    build = pyproject["build-system"]["requires"]

    wanted = requirements(pyproject, ("cpu", "dev")) + build
    cpu = resolve(wanted, {**PINNED, "torch": TORCH_CPU}, own_sources=True)
    kept = {name: version for name, version in cpu.items() if name not in NOT_ON_CPU}
    left_out = "".join(f"#   {name}: {why}\n" for name, why in NOT_ON_CPU.items())
    write_lock(HERE / "cpu.lock", CPU_HEADER + left_out, kept)

    wanted = requirements(pyproject, ("cuda", "dev")) + build
    shared = {name: version for name, version in kept.items() if name not in DIFFERS_ON_CUDA}
    cuda = resolve(wanted, {**shared, **PINNED, "torch": TORCH_CUDA}, own_sources=False)
    write_lock(HERE / "cuda.lock", CUDA_HEADER, cuda)


if __name__ == "__main__":
    main()
