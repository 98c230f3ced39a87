"""What a worker does without an engine."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from kvl.rollouts import worker as worker_module
from kvl.rollouts.worker import EngineDied, RolloutWorker, sample_seed


def worker_with(engine: object) -> RolloutWorker:
    # The constructor settles the environment of a process that will hold an engine.
    worker = RolloutWorker.__new__(RolloutWorker)
    worker._engine = engine  # pyright: ignore[reportAttributeAccessIssue]
    return worker


def test_waiting_ends_when_the_engine_process_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LIVENESS_SECONDS", 0.01)
    engine = SimpleNamespace(errored=False)
    worker = worker_with(engine)

    async def run() -> None:
        asyncio.get_running_loop().call_later(0.05, setattr, engine, "errored", True)
        await worker._while_alive(asyncio.sleep(60))

    with pytest.raises(EngineDied, match="died"):
        asyncio.run(run())


def test_results_and_errors_pass_through_a_living_engine() -> None:
    worker = worker_with(SimpleNamespace(errored=False))

    async def fail() -> None:
        raise KeyError("x")

    assert asyncio.run(worker._while_alive(asyncio.sleep(0, result=5))) == 5
    with pytest.raises(KeyError):
        asyncio.run(worker._while_alive(fail()))


def test_an_engine_must_be_started() -> None:
    with pytest.raises(RuntimeError, match="start"):
        asyncio.run(worker_with(None).begin_update())


def test_seeds_differ_by_seed_problem_and_sample_and_fit_the_engine() -> None:
    seeds = {sample_seed(s, p, n) for s in (0, 1) for p in ("a", "b") for n in range(50)}
    assert len(seeds) == 200
    assert all(seed is not None and 0 <= seed < 2**63 for seed in seeds)
    assert sample_seed(0, "a", 0) == sample_seed(0, "a", 0)


def test_no_seed_stays_no_seed() -> None:
    assert sample_seed(None, "a", 0) is None
