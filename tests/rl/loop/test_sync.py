"""What a sync asks for as its proof, and what it accepts as one."""

from __future__ import annotations

import pytest
from kvl.configs.rl import RLConfig
from kvl.problems.types import AnswerType, ImageSource, Problem
from kvl.rl.loop.sync import SyncError, check_agreement, probe_problems, require_probes
from kvl.rollouts.types import Rollout, Segment, StopReason


def problem(name: str, shown: bool = False) -> Problem:
    images = (ImageSource(data=b"png"),) if shown else ()
    question = "What?<image1>" if shown else "What?"
    return Problem(name, question, images, "7", AnswerType.NUMBER)


def rollout(name: str) -> Rollout:
    return Rollout(name, 0, (1,), (2,), (-1.0,), (Segment(0, 1, 3),), StopReason.STOP, "")


def config(dtype: str = "float32", **learner: object) -> RLConfig:
    return RLConfig.model_validate(
        {
            "run_dir": "r",
            "checkpoint": "c",
            "problems": {"path": "p.jsonl"},
            "rollout": {"engine": {"dtype": dtype}},
            "learner": learner,
        }
    )


def test_the_first_problem_with_an_image_and_the_first_without_are_probes() -> None:
    problems = [problem("a"), problem("b"), problem("c", shown=True), problem("d", shown=True)]
    assert [one.id for one in probe_problems(problems, 3)] == ["c", "a", "b"]
    assert [one.id for one in probe_problems(problems, 1)] == ["c"]
    assert [one.id for one in probe_problems(problems[:2], 9)] == ["a", "b"]


def test_every_engine_needs_a_probe_and_one_with_an_image_if_there_is_any() -> None:
    probes = [problem("shown", shown=True), problem("told")]
    whole = [rollout("shown"), rollout("told")]
    require_probes([whole, whole], probes, 3)
    require_probes([[rollout("told")]], probes[1:], 3)
    with pytest.raises(SyncError, match="engine 1 could sample no probe,"):
        require_probes([whole, []], probes[1:], 3)
    with pytest.raises(SyncError, match="engine 1 could sample no probe with an image"):
        require_probes([whole, [rollout("told")]], probes, 3)


def test_the_mean_and_nine_tokens_of_ten_have_to_agree() -> None:
    check_agreement(config(), 1e-3, 0.1, "sync 1")
    for mean, far in ((3e-3, 0.0), (1e-3, 0.2), (float("nan"), 0.0), (float("inf"), 1.0)):
        with pytest.raises(SyncError, match=r"sync 1: .* does not hold the learner's weights"):
            check_agreement(config(), mean, far, "sync 1")


def test_the_tolerance_follows_the_precisions() -> None:
    assert config("float32").tolerance == 2e-3
    assert config("bfloat16").tolerance == 5e-2
    assert config("float32", precision={"mixed_precision": "bf16"}).tolerance == 5e-2
    given = config().model_dump() | {"mismatch_tolerance": 0.3}
    assert RLConfig.model_validate(given).tolerance == 0.3
