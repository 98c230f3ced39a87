"""Can this machine run the CPU set-up? Silent if so; otherwise one line per problem, exit 1.

Runs before anything is installed, on whatever Python `make` found: standard library only, and
no syntax newer than Python 3.6.
"""

import importlib.util
import platform
import sys

NEEDED_PYTHON = (3, 11)
NEEDED_MEMORY_GIB = 8
KERNEL_SHARE_GIB = 0.5  # an 8 GiB machine reports a little less than 8


def python_problem(version):
    if tuple(version[:2]) == NEEDED_PYTHON:
        return None
    return (
        "Python 3.11 is needed (the lock file is for 3.11), this is {}.{}: "
        "install python3.11, or name one: make PYTHON=/path/to/python3.11"
    ).format(*version[:2])


def venv_problem(has_ensurepip):
    if has_ensurepip:
        return None
    return "this Python cannot create virtual environments: apt-get install python3.11-venv"


def processor_problem(system, machine, flags):
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        return (
            f"x86-64 Linux is needed (the lock file is for it), this is {system} on {machine}: "
            "try pip install -e '.[cpu]' instead"
        )
    if "avx2" not in flags and "avx512f" not in flags:
        return "a processor with AVX2 or AVX-512 is needed by vLLM's CPU engine, this has neither"
    return None


def memory_problem(gib):
    if gib is None or gib >= NEEDED_MEMORY_GIB - KERNEL_SHARE_GIB:
        return None
    return f"{NEEDED_MEMORY_GIB} GiB of memory are needed, this machine has {gib:.1f}"


def processor_flags(cpuinfo):
    """The flags of the first processor in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def memory_gib(meminfo, cgroup_limit=""):
    """By the text of /proc/meminfo, or the container's limit if lower; None if unknown."""
    known = [
        int(line.split()[1]) * 1024 for line in meminfo.splitlines() if line.startswith("MemTotal:")
    ]
    if cgroup_limit.strip().isdigit():
        known.append(int(cgroup_limit))
    return min(known) / 2**30 if known else None


def _read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def main():
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    flags = processor_flags(_read("/proc/cpuinfo"))
    memory = memory_gib(_read("/proc/meminfo"), _read("/sys/fs/cgroup/memory.max"))
    python = python_problem(sys.version_info)
    found = [
        python,
        None if python else venv_problem(has_ensurepip),
        processor_problem(platform.system(), platform.machine(), flags),
        memory_problem(memory),
    ]
    problems = [problem for problem in found if problem]
    for problem in problems:
        sys.stderr.write(f"set-up: {problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
