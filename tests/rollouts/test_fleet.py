"""Dealing, ordering and failing, with workers that hold no engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from kvl.configs.errors import KVLError
from kvl.configs.rollout import EngineConfig, RolloutConfig
from kvl.problems.types import AnswerType, Problem
from kvl.rollouts import fleet as fleet_module
from kvl.rollouts.fleet import Fleet, WorkerError
from kvl.rollouts.types import (
    Rollout,
    RolloutFailure,
    RolloutRequest,
    SamplingSettings,
    Segment,
    StopReason,
)
from ray import cloudpickle


class FakeWorker:
    """Answers with its own seed as the only token."""

    def __init__(self, checkpoint: Any, config: Any, seed: int, **_: Any) -> None:
        self.seed = seed
        self.version = 0

    async def start(self) -> dict[str, Any]:
        if self.seed >= 1000:
            raise RuntimeError("no memory left")
        return {"pid": self.seed, "host": "here"}

    async def sample(
        self, requests: list[RolloutRequest], settings: SamplingSettings
    ) -> list[list[Rollout] | RolloutFailure]:
        return [
            RolloutFailure(r.problem_id, "bad image")
            if r.problem_id == "bad"
            else [
                Rollout(
                    r.problem_id,
                    sample,
                    (1,),
                    (self.seed,),
                    (-1.0,),
                    (Segment(0, 1, self.version),),
                    StopReason.STOP,
                    "",
                )
                for sample in range(settings.samples)
            ]
            for r in requests
        ]

    async def begin_update(self) -> None:
        return

    async def apply_update(self, info: dict[str, Any]) -> None:
        if info.get("path") == "broken":
            raise ValueError("no such tensor")
        self.received = info["digest"] if info["path"] != "torn" or not self.seed else "other"

    async def finish_update(self, version: int) -> list[str]:
        self.version = version
        return [self.received]

    def weight_version(self) -> int:
        return self.version

    def shutdown(self) -> None:
        return


def problem(name: str) -> Problem:
    return Problem(name, "How many?", (), "1", AnswerType.NUMBER)


@pytest.fixture
def fakes(cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # Workers do not import from the directory that a command was started in.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(fleet_module, "RolloutWorker", FakeWorker)


def test_problems_are_dealt_in_turn_and_come_back_in_order(fakes: None) -> None:
    names = [f"p{i}" for i in range(7)]
    with Fleet("folder", RolloutConfig(workers=3), seed=5) as fleet:
        rollouts, failures = fleet.generate([problem(n) for n in names], SamplingSettings(2))
    assert failures == []
    assert [(r.problem_id, r.sample) for r in rollouts] == [(n, s) for n in names for s in (0, 1)]
    assert [r.response_token_ids[0] for r in rollouts[::2]] == [5, 6, 7, 5, 6, 7, 5]


def test_a_failure_leaves_the_others(fakes: None) -> None:
    with Fleet("folder", RolloutConfig(workers=2)) as fleet:
        rollouts, failures = fleet.generate(
            [problem("a"), problem("bad"), problem("c")], SamplingSettings(1)
        )
    assert [r.problem_id for r in rollouts] == ["a", "c"]
    assert failures == [RolloutFailure("bad", "bad image")]


def test_no_problems_need_no_samples(fakes: None) -> None:
    with Fleet("folder", RolloutConfig(workers=2)) as fleet:
        assert fleet.generate([], SamplingSettings(1)) == ([], [])


def test_weights_reach_every_worker(fakes: None) -> None:
    with Fleet("folder", RolloutConfig(workers=2)) as fleet:
        assert fleet.weight_versions() == [0, 0]
        fleet.sync_weights(iter([{"path": "x", "digest": "y"}]), 4)
        assert fleet.weight_versions() == [4, 4]


def test_a_worker_that_cannot_start_is_named(fakes: None) -> None:
    with (
        Fleet("folder", RolloutConfig(workers=2), seed=999) as fleet,
        pytest.raises(WorkerError, match=r"rollout worker 1 failed while starting.*no memory left"),
    ):
        fleet.generate([problem("a")], SamplingSettings(1))


def test_weights_that_do_not_load_are_one_error(fakes: None) -> None:
    with (
        Fleet("folder", RolloutConfig(workers=1)) as fleet,
        pytest.raises(WorkerError, match=r"worker 0 \(pid 0 on here\).*loading.*no such tensor"),
    ):
        fleet.sync_weights(iter([{"path": "broken", "digest": "y"}]), 1)


def test_other_weights_than_were_sent_are_an_error_that_names_the_sync(fakes: None) -> None:
    with (
        Fleet("folder", RolloutConfig(workers=2)) as fleet,
        pytest.raises(WorkerError, match=r"sync 3: rollout worker 1 \(pid 1 on here\).*checksum"),
    ):
        fleet.sync_weights(iter([{"path": "torn", "digest": "y"}]), 3)


def test_the_next_bucket_is_asked_for_while_one_is_loaded(fakes: None) -> None:
    """And engines pause only when the first is there."""
    with Fleet("folder", RolloutConfig(workers=1)) as fleet:
        calls: list[str] = []
        begin, gather = fleet.begin_update, fleet._gather

        def noted_gather(doing: str, references: Any) -> list[Any]:
            calls.extend(["loaded"] if doing == "loading weights" and references else [])
            return gather(doing, references)

        def updates() -> Iterator[dict[str, Any]]:
            for number in range(3):
                calls.append(f"write {number}")
                yield {"path": "x", "digest": str(number)}

        fleet.begin_update = lambda: (calls.append("pause"), begin())[1]
        fleet._gather = noted_gather
        fleet.sync_weights(updates(), 1)
    order = ["write 0", "pause", "write 1", "loaded", "write 2", "loaded", "loaded"]
    assert calls == order


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (EngineConfig(weight_transfer="nccl"), r"nccl needs GPUs.*use shared_memory"),
        (EngineConfig(return_routes=True), r"return_routes needs GPUs.*set it to false"),
    ],
    ids=["transfer", "routes"],
)
def test_what_needs_gpus_is_refused_without(
    fakes: None, engine: EngineConfig, expected: str
) -> None:
    with pytest.raises(KVLError, match=expected):
        Fleet("folder", RolloutConfig(engine=engine))


def test_shutdown_twice_is_fine(fakes: None) -> None:
    fleet = Fleet("folder", RolloutConfig(workers=1))
    fleet.shutdown()
    fleet.shutdown()


def test_probes_reach_every_worker_and_what_fails_is_missing(fakes: None) -> None:
    with Fleet("nowhere", RolloutConfig(workers=2)) as fleet:
        everyones = fleet.sample_everywhere([problem("a"), problem("bad")], SamplingSettings(1))
    assert [[rollout.problem_id for rollout in own] for own in everyones] == [["a"], ["a"]]
    # Each worker samples with the seed of its own engine.
    assert [own[0].response_token_ids for own in everyones] == [(0,), (1,)]
