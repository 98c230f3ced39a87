"""The shipped learner on two gloo ranks that hold slices, beside one that holds everything."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from kvl.configs.rl import RLConfig
from kvl.kimi_vl_model.checkpoint import iterate_tensors
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.kimi_vl_model.tuning.adapters import merged_state
from kvl.problems.synthetic.texts import written_texts
from kvl.problems.types import ImageSource
from kvl.rl.learner.batch import TokenSequence
from kvl.rl.learner.learner import Learner
from kvl.rl.learner.measures import total
from kvl.rl.learner.parallelism import RankAddress
from kvl.rollouts.types import Routes
from kvl.rollouts.weights.weight_buckets import read_bucket
from PIL import Image
from pydantic import ValidationError
from torch.distributed.tensor import DTensor

ITERATIONS = 3
CASES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "experts": {"expert_parallel": 2, "activation_checkpointing": True},
    "muon": {"optimizer": {"name": "muon", "learning_rate": 1e-4, "eps": 1e-4}},
    "lora": {"lora": {"rank": 4}, "reset_optimizer": False},
    "ddp": {"sharding": "ddp"},
}


def config(case: str, checkpoint: Path, world: int) -> RLConfig:
    learner = {
        "world_size": world,
        "sharding": "fsdp2",
        "minibatches": 2,
        "pack_tokens": 60,
        "optimizer": {"learning_rate": 1e-4, "eps": 1e-4},
        **CASES[case],
    }
    if world == 1:
        learner["expert_parallel"] = 1
    settings = {
        "run_dir": checkpoint.parent / "run",
        "checkpoint": checkpoint,
        "problems": {"path": "none.jsonl"},
        "rollout": {"engine": {"return_routes": True}},
        "correction": {"routing_replay": True},
        "learner": learner,
    }
    return RLConfig.model_validate(settings)


def groups(checkpoint: Path, seed: int) -> list[list[TokenSequence]]:
    """Four groups of two: the first shows an image, so that a rank has none in some round."""
    rng = random.Random(seed)
    processor = KimiVLProcessor.from_pretrained(checkpoint)
    picture = checkpoint.parent / "picture.png"
    made = []
    for number in range(4):
        images = (ImageSource(picture),) if number == 0 else ()
        parts = [source.open(pixels=False) for source in images]
        prompt = processor.encode_prompt([*parts, f"Question {number}?"]).token_ids
        asked = _routes(rng, len(prompt))
        members = []
        for advantage in (0.5, -0.5):
            reply = tuple(rng.randrange(256) for _ in range(rng.randrange(5, 25)))
            routes = Routes(2, 2, asked + _routes(rng, len(reply) - 1))
            logprobs = (-6.0,) * len(reply)
            members.append(
                TokenSequence(
                    tuple(prompt), reply, images, logprobs, advantage=advantage, routes=routes
                )
            )
        made.append(members)
    return made


def _routes(rng: random.Random, tokens: int) -> bytes:
    """Two layers with experts, each of which sends a token to two of eight."""
    return bytes(expert for _ in range(2 * tokens) for expert in rng.sample(range(8), 2))


def iterate(learner: Learner, checkpoint: Path, iteration: int) -> tuple[Any, Any]:
    taken = learner.take(groups(checkpoint, iteration), iteration)
    return taken, learner.update(2 * iteration)


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in merged_state(learner.weights.model)}


def synced(learner: Learner) -> dict[str, torch.Tensor]:
    found = {}
    while (bucket := learner.next_weights()) is not None:
        found.update({name: tensor.clone() for name, tensor in read_bucket(bucket)})
    return found


def run_rank(rank: int, port: int, checkpoint: Path, out: Path, case: str) -> None:
    torch.set_num_threads(1)
    learner = Learner(config(case, checkpoint, 2), RankAddress(rank, 2, "127.0.0.1", port))
    parameters = list(learner.policy.parameters())
    found: dict[str, Any] = {"sharded": all(isinstance(p, DTensor) for p in parameters)}
    if found["sharded"]:
        found["held"] = sum(p.to_local().numel() for p in parameters)  # pyright: ignore
    found["measures"] = [iterate(learner, checkpoint, n) for n in range(ITERATIONS)]
    found["weights"] = weights(learner)
    found["synced"] = synced(learner)
    learner.export(out / f"{case}-export", out / f"{case}-adapter")
    learner.save_state(out / f"{case}-state")
    iterate(learner, checkpoint, ITERATIONS)
    found["after"] = weights(learner)
    learner.load_state(out / f"{case}-state")
    iterate(learner, checkpoint, ITERATIONS)
    found["resumed"] = weights(learner)
    torch.save(found, out / f"{case}-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("sharded")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (56, 84, 3), np.uint8)).save(folder / "picture.png")
    return write_tiny_checkpoint(folder / "tiny", written_texts())


@pytest.fixture(scope="module", params=CASES)
def trained(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, list[dict[str, Any]]]:
    """(case, folder, what each rank found)."""
    out = tmp_path_factory.mktemp(request.param)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(run_rank, (port, checkpoint, out, request.param), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    ranks = [torch.load(out / f"{request.param}-{n}.pt", weights_only=False) for n in range(2)]
    return request.param, out, ranks


def assert_near(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float
) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=tolerance, rtol=0, msg=name)


def assert_moved_alike(
    found: dict[str, torch.Tensor],
    expected: dict[str, torch.Tensor],
    start: dict[str, torch.Tensor],
) -> None:
    """Muon makes directions whose gradient is rounding as long as any other, in bf16: in one rank,
    too, packs of another size end 18 % of what moved apart. That the update itself is the same is
    tested where gradients are given (`kimi_vl_model/parallel/`)."""
    for name, tensor in expected.items():
        moved = (tensor - start[name]).norm()
        assert (found[name] - tensor).norm() <= 0.3 * moved + 1e-6, name


def test_two_ranks_train_as_one_and_go_on_as_one_or_two(
    trained: tuple[str, Path, list[dict[str, Any]]], checkpoint: Path
) -> None:
    case, out, ranks = trained
    assert [found["sharded"] for found in ranks] == [case != "ddp"] * 2
    alone = Learner(config(case, checkpoint, 1), RankAddress(0, 1, "", 0))
    if case != "ddp":
        everything = sum(p.numel() for p in alone.policy.parameters())
        assert sum(found["held"] for found in ranks) == everything
        assert max(found["held"] for found in ranks) < 0.55 * everything
    start = weights(alone)
    for number in range(ITERATIONS):
        taken, updated = iterate(alone, checkpoint, number)
        pairs = _measures(ranks, number)
        for found, expected in zip(pairs, (taken, updated), strict=True):
            near = 1e-2 if case == "muon" else 1e-4
            assert found.sums == pytest.approx(expected.sums, abs=near, rel=near)
            assert found.maxima == pytest.approx(expected.maxima, abs=near, rel=near)
    expected = weights(alone)
    assert sum(not t.equal(start[name]) for name, t in expected.items()) > 10
    if case == "muon":
        assert_moved_alike(ranks[0]["weights"], expected, start)
    else:
        assert_near(ranks[0]["weights"], expected, 1e-6)
    iterate(alone, checkpoint, ITERATIONS)
    for found in ranks:
        assert_near(found["weights"], ranks[0]["weights"], 0)
        assert_near(found["resumed"], found["after"], 0)

    resumed = Learner(config(case, checkpoint, 1), RankAddress(0, 1, "", 0))
    resumed.load_state(out / f"{case}-state")
    assert_near(weights(resumed), ranks[0]["weights"], 0)
    iterate(resumed, checkpoint, ITERATIONS)
    if case == "muon":
        assert_moved_alike(weights(resumed), weights(alone), start)
    else:
        assert_near(weights(resumed), weights(alone), 1e-6)

    exported = {name: tensor for name, tensor, _ in iterate_tensors(out / f"{case}-export")}
    assert_near(ranks[0]["synced"], exported, 0)


def _measures(ranks: Sequence[dict[str, Any]], number: int) -> list[Any]:
    return [total([found["measures"][number][part] for found in ranks]) for part in range(2)]


@pytest.mark.parametrize(
    ("learner", "named"),
    [
        ({"expert_parallel": 2}, "fsdp2"),
        ({"expert_parallel": 2, "world_size": 3, "sharding": "fsdp2"}, "world_size"),
        (
            {
                "expert_parallel": 2,
                "world_size": 2,
                "sharding": "fsdp2",
                "lora": {"routed_experts": True},
            },
            "routed_experts",
        ),
    ],
)
def test_experts_are_divided_only_where_that_works(learner: dict[str, Any], named: str) -> None:
    settings = {"run_dir": "run", "checkpoint": "c", "problems": {"path": "p"}, "learner": learner}
    with pytest.raises(ValidationError, match=named):
        RLConfig.model_validate(settings)
