"""The real command on the machine that runs the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def test_the_doctor_finds_this_machine_as_it_is_and_a_cluster_that_is_not_there(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "kvl.rl.cli", "doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"},
    )
    assert ended.stderr == ""
    report = json.loads(ended.stdout)
    found = {one["name"]: one for one in report["checks"]}
    assert (ended.returncode, report["ok"]) == (1, False)
    assert found["Ray"]["found"] == "RAY_ADDRESS=127.0.0.1:1: nothing answers there"
    assert "ray start --head" in found["Ray"]["fix"]
    for name in ("Python", "packages", "torch", "torchvision", "vLLM", "/dev/shm", "ports"):
        assert found[name]["state"] != "problem", found[name]
