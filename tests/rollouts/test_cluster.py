"""Joining and starting Ray: what it says in its own way becomes one line."""

from __future__ import annotations

from typing import Any

import pytest
import ray
from kvl.rollouts import cluster
from kvl.rollouts.cluster import WorkerError, connect


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is connected, and nothing gets connected."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "is no address of a Ray cluster; write host:port"),
        ("host:port", "is no address of a Ray cluster"),
        (":6379", "is no address of a Ray cluster"),
        ("host:99999", "is no address of a Ray cluster"),
        ("127.0.0.1:1", "no Ray cluster answers there"),
        ("no-such-host.invalid:6379", "no Ray cluster answers there"),
        ("\udc80:1", "no Ray cluster answers there"),
        ("ray://127.0.0.1:10001", "is for Ray's client"),
    ],
)
def test_an_address_where_no_cluster_is_is_one_line(
    alone: None, monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(WorkerError, match=message) as caught, connect():
        pass
    assert "\n" not in str(caught.value)
    assert "RAY_ADDRESS" in str(caught.value)


def test_auto_without_a_cluster_is_one_line(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(cluster.ray_services, "find_bootstrap_address", lambda _folder: None)
    with pytest.raises(WorkerError, match="no Ray cluster runs on this machine"), connect():
        pass


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("AuthenticationError: invalid token\n  at x", "set RAY_AUTH_MODE=token"),
        ("Version mismatch: The cluster was started with:\n Ray: 2.9", "own Python and Ray"),
        ("something else\n" * 99, "unset RAY_ADDRESS"),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_one_line(
    alone: None, monkeypatch: pytest.MonkeyPatch, said: str, fix: str
) -> None:
    def refuse(**_options: Any) -> None:
        raise RuntimeError(said)

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    monkeypatch.setattr(cluster, "_answers", lambda _address: True)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(WorkerError, match=fix) as caught, connect():
        pass
    assert "\n" not in str(caught.value)


def test_a_start_that_takes_too_long_is_tried_once_more(
    alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[dict[str, Any]] = []

    def slow(**options: Any) -> None:
        tries.append(options)
        if len(tries) < needed:
            raise RuntimeError("The current node timed out\nduring startup.")

    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr(ray, "init", slow)
    needed = 2
    with connect():
        assert len(tries) == 2
    needed = 9
    with pytest.raises(WorkerError, match="tried 2 times: The current node timed out"), connect():
        pass
