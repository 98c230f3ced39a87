"""One learner rank on responses that the tiny model itself sampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kvl.configs.common import ProblemSource
from kvl.configs.loading import load_config
from kvl.configs.rl import RLConfig
from kvl.configs.rollout import RolloutConfig
from kvl.kimi_vl_model.checkpoint import iterate_tensors, load_model
from kvl.problems.loading import load_problems
from kvl.rl.learner.batch import TokenSequence, rollout_sequence
from kvl.rollouts.types import SamplingSettings, Segment
from stand_ins import LocalLearner, TinyFleet

Groups = list[list[TokenSequence]]
ADVANTAGES = (0.5, -0.5, 0.5, -0.5)


@pytest.fixture(scope="module")
def groups(tiny_folder: Path) -> Groups:
    """Four problems with four responses each, two of them right."""
    problems, _ = load_problems(ProblemSource(path=tiny_folder / "train.jsonl", limit=4))
    fleet = TinyFleet(tiny_folder / "tiny", RolloutConfig())
    rollouts, failures = fleet.generate(problems, SamplingSettings(4, max_response_tokens=16))
    assert failures == []
    return [
        [
            rollout_sequence(problem, rollout, advantage)
            for rollout, advantage in zip(
                (one for one in rollouts if one.problem_id == problem.id), ADVANTAGES, strict=True
            )
        ]
        for problem in problems
    ]


@pytest.fixture
def open_learner(tiny_folder: Path, tmp_path: Path) -> Iterator[Callable[..., LocalLearner]]:
    opened = []

    def make(*overrides: str) -> LocalLearner:
        own = (f"run_dir={tmp_path}", f"checkpoint={tiny_folder}/tiny")
        config = load_config(tiny_folder / "rl.yaml", RLConfig, (*own, *overrides))
        opened.append(LocalLearner(config))
        return opened[-1]

    yield make
    for learner in opened:
        learner.close()


def parameters(learner: LocalLearner) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in learner.rank.policy.named_parameters()}


def logprob_sums(learner: LocalLearner, groups: Groups) -> list[float]:
    """log π of whole responses, as the packs of a fresh `take` hold them, less the engine's."""
    sums = []
    for group in groups:
        for sequence in group:
            measured = learner.take([[sequence]], 0)
            engine = sum(sequence.engine_logprobs)
            ((packed,),) = learner.rank.minibatches[:1]
            assert measured["fresh_tokens"] == len(sequence.response_token_ids)
            assert packed.reference_logprob_R is not None
            sums.append(float(packed.reference_logprob_R.sum()) - engine)
    return sums


def test_what_was_rewarded_becomes_likelier_and_the_rest_less_likely(
    groups: Groups, open_learner: Callable[..., LocalLearner]
) -> None:
    learner = open_learner("learner.minibatches=1", "learner.optimizer.learning_rate=3e-4")
    report = learner.take(groups, 0)
    assert report["difference_max"] < 1e-4
    assert learner.update(0)["grad_norm"] > 0
    change = logprob_sums(learner, groups)
    rewarded, others = sum(change[0::2]), sum(change[1::2])
    assert rewarded > 0 > others


def test_the_reference_is_fixed_while_minibatches_step(
    groups: Groups, open_learner: Callable[..., LocalLearner]
) -> None:
    """At the first step the policy is its reference; at the second it has moved from it."""
    for minibatches, moved in ((1, False), (2, True)):
        learner = open_learner(f"learner.minibatches={minibatches}")
        learner.take(groups, 0)
        assert (learner.update(0)["ell_max"] > 1e-6) is moved


def test_packing_changes_no_more_than_rounding(
    groups: Groups, open_learner: Callable[..., LocalLearner]
) -> None:
    smooth = ("learner.optimizer.eps=1e-2", "learner.optimizer.learning_rate=1e-2")
    results = []
    for tokens in (64, 4096):
        learner = open_learner(f"learner.pack_tokens={tokens}", *smooth)
        reference = learner.take(groups, 0)
        packs = sum(map(len, learner.rank.minibatches))
        results.append((packs, reference, learner.update(0), parameters(learner)))
    (many, reference, update, small), (few, reference_2, update_2, large) = results
    assert many > few == 2
    assert reference["fresh_tokens"] == reference_2["fresh_tokens"]
    assert reference["entropy_sum"] == pytest.approx(reference_2["entropy_sum"], rel=1e-4)
    assert update["loss"] == pytest.approx(update_2["loss"], rel=1e-3, abs=1e-5)
    assert update["grad_norm"] == pytest.approx(update_2["grad_norm"], rel=1e-3)
    for name, tensor in small.items():
        torch.testing.assert_close(large[name], tensor, atol=1e-6, rtol=0, msg=name)


def test_the_scheduled_learning_rate_is_the_optimizers(
    groups: Groups, open_learner: Callable[..., LocalLearner]
) -> None:
    learner = open_learner("schedule.learning_rate={start: 1e-3, end: 1e-5, iterations: 2}")
    rates = []
    for iteration in range(3):
        learner.take(groups, iteration)
        learner.update(0)
        optimizer = learner.rank.optimizer
        assert optimizer.optimizer is not None
        rates.append({group["lr"] for group in optimizer.optimizer.param_groups})
    assert [rate for (rate,) in rates] == pytest.approx([1e-3, 5.05e-4, 1e-5])


def test_frozen_parts_stay_and_are_sent_once(
    groups: Groups, open_learner: Callable[..., LocalLearner]
) -> None:
    learner = open_learner("learner.freeze=[vision_tower, projector]")
    first = [name for bucket in learner.weights() for name in bucket["names"]]
    before = parameters(learner)
    learner.take(groups, 0)
    learner.update(0)
    moved = {name for name, p in parameters(learner).items() if not p.equal(before[name])}
    assert moved
    assert not any("vision_tower" in name or "multi_modal_projector" in name for name in moved)
    second = [name for bucket in learner.weights() for name in bucket["names"]]
    assert any(name.startswith("vision_tower") for name in first)
    assert {name.partition(".")[0] for name in second} == {"language_model"}


def test_tokens_of_older_weights_are_not_compared_with_the_engine(
    groups: Groups, open_learner: Callable[..., LocalLearner]
) -> None:
    """Half of a response came before the last sync, with log-probs of other weights."""
    first, *others = groups[0]
    length = len(first.response_token_ids)
    half = length // 2
    mixed = replace(
        first,
        engine_logprobs=tuple(
            p - 1.0 if i < half else p for i, p in enumerate(first.engine_logprobs)
        ),
        segments=(Segment(0, half, 0), Segment(half, length, 1)),
    )
    fresh = [replace(r, segments=(Segment(0, len(r.response_token_ids), 1),)) for r in others]
    learner = open_learner("correction.stale_tokens=mask")
    report = learner.take([[mixed, *fresh], *groups[1:]], 1)
    stale = half + sum(len(one.response_token_ids) for group in groups[1:] for one in group)
    assert report["stale"] == report["masked"] == stale
    assert report["difference_max"] < 1e-4


def test_no_number_from_the_engine_is_no_agreement(
    groups: Groups, open_learner: Callable[..., LocalLearner]
) -> None:
    learner = open_learner()
    one = groups[0][0]
    assert max(learner.score([one], 0)) < 1e-4
    broken = replace(one, engine_logprobs=(math.nan, *one.engine_logprobs[1:]))
    first, *others = learner.score([broken], 0)
    assert first == math.inf
    assert max(others) < 1e-4


def test_the_export_is_the_policy_in_the_published_layout(
    groups: Groups,
    open_learner: Callable[..., LocalLearner],
    tiny_folder: Path,
    tmp_path: Path,
) -> None:
    learner = open_learner()
    learner.take(groups, 0)
    learner.update(0)
    learner.export(tmp_path / "final", tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    source = {name for name, _, _ in iterate_tensors(tiny_folder / "tiny")}
    assert {name for name, _, _ in iterate_tensors(tmp_path / "final")} == source
    exported = load_model(tmp_path / "final").state_dict()
    for name, tensor in learner.rank.weights.model.state_dict().items():
        assert exported[name].equal(tensor), name
