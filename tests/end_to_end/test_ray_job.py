"""A training run as a job of a Ray cluster that is already there."""

from __future__ import annotations

import json
import socket
import urllib.request

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def head(workshop):
    """(address of the dashboard, Ray folder) of a head that lives as long as the test."""
    folder = workshop.ray_folder()
    dashboard = free_port()
    # `ray stop` would also stop everybody else's Ray; a blocking head ends with its signal.
    command = workshop.start(
        "ray",
        "start",
        "--head",
        "--block",
        f"--port={free_port()}",
        f"--temp-dir={folder}/head",
        "--include-dashboard=true",
        f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--dashboard-agent-grpc-port={free_port()}",
        f"--ray-client-server-port={free_port()}",
        "--num-cpus=2",
        f"--object-store-memory={100 * 2**20}",
        "--disable-usage-stats",
        ray_folder=folder,
        RAY_AUTH_MODE="disabled",
    )
    address = f"http://127.0.0.1:{dashboard}"
    command.wait_until(lambda: answers(f"{address}/api/version"))
    yield address, folder
    command.signal(15)
    command.process.wait(60)
    assert command.left_over() == []


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def test_a_submitted_job_trains_on_the_cluster_it_was_submitted_to(workshop, head, records):
    address, folder = head
    run = workshop.folder / "job"
    absolute = [
        f"{key}={workshop.folder / path}"
        for key, path in (
            ("run_dir", "job"),
            ("checkpoint", "sft/final"),
            ("problems.path", "problems/train.jsonl"),
        )
    ]
    train = ("kvl-rl", "train", workshop.folder / "rl.yaml", *absolute, "iterations=1")
    job = workshop.start(
        "ray", "job", "submit", "--address", address, "--", *train, RAY_AUTH_MODE="disabled"
    ).wait()
    assert job.process.returncode == 0, job.stdout + job.stderr
    assert "succeeded" in job.stdout
    assert len(records(run / "metrics.jsonl")) == 1
    assert (run / "final").is_dir()
    with urllib.request.urlopen(f"{address}/api/v0/actors", timeout=30) as answer:
        actors = json.load(answer)["data"]["result"]["result"]
    assert {actor["class_name"] for actor in actors} >= {"LearnerRank", "RolloutWorker"}
    assert not (folder / "ray").exists(), "the job started a private cluster"
