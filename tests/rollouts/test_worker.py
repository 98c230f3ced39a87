"""What a worker does without an engine."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from kvl.configs.rollout import EngineConfig
from kvl.rollouts import worker as worker_module
from kvl.rollouts.types import RolloutRequest, SamplingSettings
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


class NotedEngine:
    """Notes what it is told, and in which order."""

    errored = False

    def __init__(self) -> None:
        self.told: list[Any] = []

    async def add_request(self, _name: str, prompt: Any, _parameters: Any) -> None:
        self.told.append(prompt)

    async def collective_rpc(self, _method: str) -> list[str]:
        return ["digest"]

    async def finish_weight_update(self, version: str) -> None:
        self.told.append(f"weights {version}")

    async def pause_generation(self, **_: Any) -> None:
        self.told.append("pause")

    def __getattr__(self, name: str) -> Any:
        async def note() -> None:
            self.told.append(name)

        return note


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> tuple[RolloutWorker, NotedEngine]:
    """A worker whose prompts are (problem, version, whether with patches)."""
    engine = NotedEngine()
    worker = worker_with(engine)
    vars(worker).update(
        _turn=asyncio.Lock(),
        _weight_version=1,
        _config=EngineConfig(),
        _request_numbers=iter(range(99)),
        _repetition_stop=None,
    )

    async def prepare(request: RolloutRequest, _settings: Any) -> Any:
        return request, request.problem_id

    async def collect(queued: Any) -> Any:
        return queued

    monkeypatch.setattr(worker, "_prepare", prepare)
    monkeypatch.setattr(worker, "_collect", collect)
    monkeypatch.setattr(
        worker_module,
        "engine_input",
        lambda prompt, _sampled, version, patches: (prompt, version, patches),
    )
    return worker, engine


async def ask(worker: RolloutWorker, name: str, samples: int = 1) -> Any:
    parameters: Any = SimpleNamespace()
    return await worker._sample_one(RolloutRequest(name, ()), SamplingSettings(samples), parameters)


def test_what_is_asked_during_an_update_is_named_for_the_new_weights(
    noted: tuple[RolloutWorker, NotedEngine],
) -> None:
    worker, engine = noted

    async def run() -> list[str]:
        await ask(worker, "before")
        await worker.begin_update()
        during = asyncio.ensure_future(ask(worker, "during"))
        await asyncio.sleep(0.01)
        received = await worker.finish_update(2)
        await during
        return received

    assert asyncio.run(run()) == ["digest"]
    assert engine.told == [
        ("before", 1, True),
        *("pause", "start_weight_update"),
        *("weights 2", "reset_encoder_cache", "resume_generation"),
        ("during", 2, True),
    ]


def test_the_samples_of_a_problem_follow_each_other_and_bring_its_patches_once(
    noted: tuple[RolloutWorker, NotedEngine],
) -> None:
    worker, engine = noted

    async def run() -> None:
        await asyncio.gather(ask(worker, "a", 3), ask(worker, "b", 2))

    asyncio.run(run())
    a, b = ("a", 1), ("b", 1)
    assert engine.told == [(*a, True), (*a, False), (*a, False), (*b, True), (*b, False)]


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
