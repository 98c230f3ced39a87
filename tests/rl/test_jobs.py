"""Submitting a run, with a cluster that only notes what it is given."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kvl.configs.errors import KVLError
from kvl.configs.loading import load_config
from kvl.configs.rl import RLConfig
from kvl.rl import jobs
from ray.job_submission import JobStatus

URL = "http://head:8265"


class Cluster:
    """Jobs end at once, as told."""

    def __init__(self, status: JobStatus = JobStatus.SUCCEEDED, code: int | None = 0) -> None:
        self.status, self.code, self.lost = status, code, False

    def submit_job(self, entrypoint: str, runtime_env: dict[str, Any]) -> str:
        self.entrypoint, self.environment = entrypoint, runtime_env
        folder = Path(runtime_env["working_dir"])
        self.files = {path.name: path.read_text() for path in folder.iterdir()}
        return "raysubmit_1"

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        yield f"log of {job}\n"
        if self.lost:
            raise RuntimeError("WebSocket\nclosed")

    def get_job_info(self, _job: str) -> Any:
        return SimpleNamespace(status=self.status, driver_exit_code=self.code)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RLConfig:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    # Set and unset, so that what the command sets is taken back.
    monkeypatch.setenv("RAY_AUTH_MODE", "")
    monkeypatch.delenv("RAY_AUTH_MODE")
    Path("rl.yaml").write_text("{run_dir: r, checkpoint: c, problems: {path: p.jsonl}}")
    return load_config("rl.yaml", RLConfig)


def test_the_job_gets_its_config_with_absolute_paths(
    config: RLConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    cluster = Cluster()
    monkeypatch.setattr(jobs, "_client", lambda _url: cluster)
    assert jobs.submit(config, URL, follow=True) == 0
    assert cluster.entrypoint == "kvl-rl train config.yaml"
    assert cluster.files.keys() == {"config.yaml"}
    assert f"run_dir: {tmp_path}/r\n" in cluster.files["config.yaml"]
    assert cluster.environment["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "30"}
    printed = capsys.readouterr().out
    assert f"job raysubmit_1: run_dir {tmp_path}/r\n" in printed
    assert f"ray job stop --address {URL} raysubmit_1\n" in printed
    assert printed.endswith("log of raysubmit_1\njob raysubmit_1: succeeded\n")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 143),
    ],
)
def test_the_command_ends_as_the_job_did(
    config: RLConfig,
    monkeypatch: pytest.MonkeyPatch,
    status: JobStatus,
    code: int | None,
    expected: int,
) -> None:
    monkeypatch.setattr(jobs, "_client", lambda _url: Cluster(status, code))
    assert jobs.submit(config, URL, follow=True) == expected
    assert jobs.submit(config, URL, follow=False) == 0


def test_lost_contact_is_one_line_that_says_how_to_go_on(
    config: RLConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster()
    cluster.lost = True
    monkeypatch.setattr(jobs, "_client", lambda _url: cluster)
    with pytest.raises(KVLError, match=r"lost contact .*it goes on: ray job logs") as caught:
        jobs.submit(config, URL, follow=True)
    assert "\n" not in str(caught.value)


def test_a_stopped_reader_leaves_the_job(
    config: RLConfig, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def stopped(work: Any) -> None:
        work.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "_client", lambda _url: Cluster())
    monkeypatch.setattr(asyncio, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        jobs.submit(config, URL, follow=True)
    assert "job raysubmit_1 goes on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (None, "add --address http://HOST:8265"),
        ("head:6379", "write http://head:8265"),
        ("ray://head:10001", "write http://head:8265"),
        ("auto", "write http://127.0.0.1:8265"),
    ],
)
def test_another_address_than_the_dashboards_is_refused_with_it(
    config: RLConfig, address: str | None, said: str
) -> None:
    with pytest.raises(KVLError, match=said):
        jobs.submit(config, address, follow=True)


def test_the_address_may_be_rays_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", f"{URL}/")
    assert jobs.dashboard_address(None) == URL
    assert jobs.dashboard_address("https://other") == "https://other"


@pytest.mark.parametrize(
    ("said", "fix"),
    [("AuthenticationError: no token", "set RAY_AUTH_MODE=token"), ("refused", "is the head")],
)
def test_a_cluster_that_takes_no_job_is_one_line(
    config: RLConfig, monkeypatch: pytest.MonkeyPatch, said: str, fix: str
) -> None:
    def refuse(_url: str) -> None:
        raise RuntimeError(f"{said}\n  at x")

    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", refuse)
    with pytest.raises(KVLError, match=fix) as caught:
        jobs.submit(config, URL, follow=True)
    assert "\n" not in str(caught.value)


def test_a_token_at_hand_is_used_unless_told_otherwise(config: RLConfig, tmp_path: Path) -> None:
    jobs.use_token()
    assert "RAY_AUTH_MODE" not in os.environ
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("t")
    jobs.use_token()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    os.environ["RAY_AUTH_MODE"] = "disabled"
    jobs.use_token()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
