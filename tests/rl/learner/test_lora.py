"""A learner rank that trains adapters: what moves, what is stored, what engines get."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kvl.configs.errors import CheckpointError
from kvl.configs.rl import RLConfig
from kvl.kimi_vl_model.checkpoint import iterate_tensors, load_model, persistent_state
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.kimi_vl_model.tuning.adapters import plain_state
from kvl.problems.synthetic.texts import written_texts
from kvl.problems.types import AnswerType, Problem
from kvl.rl.learner.batch import TokenSequence, rollout_sequence
from kvl.rl.learner.learner import Learner
from kvl.rl.learner.parallelism import RankAddress
from kvl.rollouts.types import Rollout, Segment, StopReason
from torch.distributed.checkpoint.filesystem import FileSystemReader


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_checkpoint(tmp_path_factory.mktemp("lora") / "tiny", written_texts())


@pytest.fixture
def make_learner(checkpoint: Path, tmp_path: Path) -> Callable[..., Learner]:
    def make(rank: int = 4) -> Learner:
        settings = {
            "run_dir": tmp_path / "run",
            "checkpoint": checkpoint,
            "problems": {"path": "none.jsonl"},
            "learner": {
                "minibatches": 1,
                "reset_optimizer": False,
                "activation_checkpointing": True,
                "optimizer": {"learning_rate": 1e-3, "eps": 1e-8},
                "lora": {"rank": rank, "routed_experts": True},
            },
        }
        return Learner(RLConfig.model_validate(settings), RankAddress(0, 1, "", 0))

    return make


def group(seed: int) -> list[TokenSequence]:
    rng = random.Random(seed)
    rollouts = tuple(
        Rollout(
            problem_id="one",
            sample=sample,
            prompt_token_ids=tuple(range(10, 20)),
            response_token_ids=tuple(rng.randrange(256) for _ in range(12)),
            logprobs=(-5.0,) * 12,
            segments=(Segment(0, 12, 0),),
            stop_reason=StopReason.STOP,
            text="",
        )
        for sample in range(2)
    )
    problem = Problem("one", "What is 3 + 4?", (), "7", AnswerType.NUMBER)
    return [
        rollout_sequence(problem, rollout, advantage)
        for rollout, advantage in zip(rollouts, (0.5, -0.5), strict=True)
    ]


def train(learner: Learner, iteration: int) -> None:
    learner.take([group(iteration)], iteration)
    assert learner.update(iteration)["grad_norm"] > 0


def trained(learner: Learner) -> dict[str, torch.Tensor]:
    return {
        name: parameter.detach().clone()
        for name, parameter in learner.policy.named_parameters()
        if parameter.requires_grad
    }


def synced(learner: Learner) -> list[str]:
    names = []
    while (bucket := learner.next_weights()) is not None:
        names += bucket["names"]
    return names


def test_a_resumed_learner_goes_on_bit_for_bit_and_the_base_never_moves(
    checkpoint: Path, tmp_path: Path, make_learner: Callable[..., Learner]
) -> None:
    straight = make_learner()
    start = trained(straight)
    train(straight, 0)
    straight.save_state(tmp_path / "state")
    train(straight, 1)
    after = trained(straight)
    assert not any(after[name].equal(start[name]) for name in after)

    resumed = make_learner()
    assert all(tensor.equal(start[name]) for name, tensor in trained(resumed).items())
    resumed.load_state(tmp_path / "state")
    train(resumed, 1)
    assert all(tensor.equal(after[name]) for name, tensor in trained(resumed).items())

    source = dict(persistent_state(load_model(checkpoint)))
    base = dict(plain_state(resumed.weights.model))
    assert base.keys() == source.keys()
    assert all(tensor.equal(source[name]) for name, tensor in base.items())
    stored = FileSystemReader(tmp_path / "state").read_metadata().state_dict_metadata
    assert all(".lora_" in name or "bias" in name for name in stored)

    everything = synced(resumed)
    assert set(everything) == {name for name, _, _ in iterate_tensors(checkpoint)}
    again = synced(resumed)
    assert again
    assert {name.split(".layers.")[0] for name in again} == {"language_model.model"}
    assert not any("norm" in name or "mlp.gate." in name for name in again)
    # nccl's receivers lay out their buffers by what was announced.
    assert [(name, tensor.shape) for name, tensor in resumed.weights.shapes()] == [
        (name, tensor.shape) for name, tensor in resumed.weights.published()
    ]


def test_a_checkpoint_of_other_adapters_is_refused(
    tmp_path: Path, make_learner: Callable[..., Learner]
) -> None:
    make_learner(rank=4).save_state(tmp_path / "state")
    with pytest.raises(CheckpointError, match=r"does not fit learner\.lora"):
        make_learner(rank=2).load_state(tmp_path / "state")
