"""A step whose loss or gradient is not finite moves no weight, and is counted."""

from __future__ import annotations

from dataclasses import replace
from math import isnan, nan
from pathlib import Path

import pytest
import torch
from kvl.configs.rl import RLConfig
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.problems.types import AnswerType, Problem
from kvl.rl.learner.batch import TokenSequence, rollout_sequence
from kvl.rl.learner.learner import Learner
from kvl.rl.learner.measures import Measures
from kvl.rl.learner.parallelism import RankAddress
from kvl.rl.loop.metrics import learner_metrics
from kvl.rollouts.types import Rollout, Segment, StopReason


@pytest.fixture
def learner(tmp_path: Path) -> Learner:
    torch.set_num_threads(1)
    config = RLConfig.model_validate(
        {
            "run_dir": tmp_path / "run",
            "checkpoint": write_tiny_checkpoint(tmp_path / "tiny", ["a"]),
            "problems": {"path": "none.jsonl"},
            "rollout": {"problems_per_iteration": 2},
            "learner": {"minibatches": 2, "optimizer": {"learning_rate": 1e-3, "eps": 1e-8}},
        }
    )
    return Learner(config, RankAddress(0, 1, "", 0))


def group(name: str, advantage: float = 0.5) -> list[TokenSequence]:
    rollouts = tuple(
        Rollout(
            problem_id=name,
            sample=sample,
            prompt_token_ids=tuple(range(10, 20)),
            response_token_ids=(30 + sample, 40, 50),
            logprobs=(-5.0,) * 3,
            segments=(Segment(0, 3, 0),),
            stop_reason=StopReason.STOP,
            text="",
        )
        for sample in range(2)
    )
    problem = Problem(name, "?", (), "7", AnswerType.NUMBER)
    return [
        rollout_sequence(problem, rollout, signed)
        for rollout, signed in zip(rollouts, (advantage, -advantage), strict=True)
    ]


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in learner.policy.named_parameters()}


def test_the_other_steps_are_taken_and_reported_as_if_alone(learner: Learner) -> None:
    before = weights(learner)
    learner.take([group("broken", nan), group("sound")], 0)
    report = learner.update(0)
    assert (report["steps"], report["steps_skipped"]) == (1, 1)
    assert report["sequences"] == 2
    assert not any(isnan(report[name]) for name in ("loss", "grad_norm", "ell_sum", "ell_max"))
    after = weights(learner)
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert any(not after[name].equal(before[name]) for name in after)


def test_without_a_sound_step_no_weight_moves(learner: Learner) -> None:
    before = weights(learner)
    learner.take([group("one", nan), group("two", float("inf"))], 0)
    report = learner.update(0)
    assert (report["steps"], report["steps_skipped"]) == (0, 2)
    metrics = learner_metrics(Measures(), report)
    assert isnan(metrics["loss"])
    assert isnan(metrics["grad_norm"])
    assert report["learner_tokens"] > 0
    assert all(tensor.equal(before[name]) for name, tensor in weights(learner).items())


def test_a_finite_loss_with_a_broken_gradient_is_left_out_too(
    learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights(learner)
    real = learner.objective

    def steep(inputs, settings):
        output = real(inputs, settings)
        # √ has an infinite slope at 0, and 0 · ∞ is no number.
        return replace(output, loss=output.loss + (output.loss * 0).sqrt())

    monkeypatch.setattr(learner, "objective", steep)
    learner.take([group("one"), group("two")], 0)
    assert learner.update(0)["steps_skipped"] == 2
    assert all(tensor.equal(before[name]) for name, tensor in weights(learner).items())
