"""The learner with the experts that an engine chose (R3). The engine is a second model that
records its routes: the real one returns routes on GPUs only."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kvl.configs.rl import RLConfig
from kvl.kimi_vl_model.checkpoint import load_model
from kvl.kimi_vl_model.logprobs import token_logprobs
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.kimi_vl_model.routing import NO_ROUTE, recorded_routes, routers
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.kimi_vl_model.tokenization import banned_ids
from kvl.problems.prompt import prompt_parts
from kvl.problems.synthetic.texts import written_texts
from kvl.problems.types import AnswerType, ImageSource, Problem
from kvl.rl.learner.batch import TokenSequence, pack, rollout_sequence
from kvl.rl.learner.learner import Learner
from kvl.rl.learner.parallelism import RankAddress
from kvl.rollouts.types import Rollout, Routes, Segment, StopReason
from PIL import Image

SAMPLES, LAYERS = 2, 2


def png() -> ImageSource:
    pixels = np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return ImageSource(data=file.getvalue())


PROBLEMS = [
    Problem("shown", "How many dots?\n<image1>", (png(),), "7", AnswerType.NUMBER),
    Problem("told", "What is 3 + 4?", (), "7", AnswerType.NUMBER),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_checkpoint(tmp_path_factory.mktemp("replay") / "tiny", written_texts())


@torch.no_grad()
def sampled_by(engine: KimiVLForConditionalGeneration, folder: Path) -> list[list[TokenSequence]]:
    """Random responses with the engine's log-probs and routes, as rollouts hold them."""
    processor = KimiVLProcessor.from_pretrained(folder)
    rng = np.random.default_rng(1)
    groups = []
    for problem in PROBLEMS:
        parts = [p.open() if isinstance(p, ImageSource) else p for p in prompt_parts(problem)]
        prompt = processor.encode_prompt(parts).token_ids
        shown = [part for part in parts if not isinstance(part, str)]
        features = processor.image_processor.preprocess(shown) if shown else {}
        rollouts = []
        for sample in range(SAMPLES):
            response = tuple(int(token) for token in rng.integers(0, 256, 12 + sample))
            ids = torch.tensor([[*prompt, *response]])
            hidden = engine.hidden_states(ids, **features)[0, len(prompt) - 1 : -1]
            logprobs, _entropy = token_logprobs(
                hidden,
                engine.language_model.lm_head.weight,
                torch.tensor(response),
                banned_ids=torch.tensor(banned_ids(processor.tokenizer)),
            )
            routes = recorded_routes(engine)[:-1]
            _tokens, layers, experts = routes.shape
            rollouts.append(
                Rollout(
                    problem_id=problem.id,
                    sample=sample,
                    prompt_token_ids=tuple(prompt),
                    response_token_ids=response,
                    logprobs=tuple(logprobs.tolist()),
                    segments=(Segment(0, len(response), 0),),
                    stop_reason=StopReason.STOP,
                    text="",
                    routes=Routes(layers, experts, routes.numpy().tobytes()),
                )
            )
        groups.append(
            [
                rollout_sequence(problem, rollout, advantage)
                for rollout, advantage in zip(rollouts, (0.5, -0.5), strict=True)
            ]
        )
    return groups


def with_other_choices(folder: Path) -> KimiVLForConditionalGeneration:
    """The same policy but for its selection biases, which choose experts and weigh none."""
    engine = load_model(folder)
    generator = torch.Generator().manual_seed(2)
    for router in routers(engine):
        router.e_score_correction_bias.add_(torch.randn(8, generator=generator), alpha=0.1)
    return engine


def learner(folder: Path, replay: bool, **settings: Any) -> Learner:
    config = RLConfig.model_validate(
        {
            "run_dir": folder.parent / "run",
            "checkpoint": folder,
            "problems": {"path": "p.jsonl"},
            "rollout": {"problems_per_iteration": 2, "engine": {"return_routes": True}},
            "correction": {"routing_replay": replay},
            "learner": {"minibatches": 1, "optimizer": {"learning_rate": 1e-3}, **settings},
        }
    )
    return Learner(config, RankAddress(0, 1, "127.0.0.1", 0))


def reference(one: Learner) -> torch.Tensor:
    found = [pack.reference_logprob_R for minibatch in one.minibatches for pack in minibatch]
    return torch.cat([logprob_R for logprob_R in found if logprob_R is not None])


def test_replaying_what_it_would_have_chosen_changes_nothing(folder: Path) -> None:
    groups = sampled_by(load_model(folder), folder)
    free, replaying = learner(folder, replay=False), learner(folder, replay=True)
    pairs = LAYERS * sum(len(s.response_token_ids) for group in groups for s in group)
    for one in (free, replaying):
        report = one.take(groups, 0)
        assert (report["rerouted"], report["routed"]) == (0, pairs)
    assert reference(free).equal(reference(replaying))


@pytest.mark.parametrize("settings", [{}, {"lora": {"rank": 2}}], ids=["whole", "adapters"])
def test_replay_computes_what_the_engine_did(folder: Path, settings: dict[str, Any]) -> None:
    groups = sampled_by(with_other_choices(folder), folder)
    free = learner(folder, replay=False, **settings).take(groups, 0)
    replaying = learner(folder, replay=True, **settings).take(groups, 0)
    assert free["rerouted"] == pytest.approx(replaying["rerouted"], abs=free["routed"] // 10)
    assert free["rerouted"] > free["routed"] / 10
    assert free["difference_max"] > 1e-3
    assert replaying["difference_max"] < 1e-5


def test_every_pass_of_an_iteration_replays_and_the_routers_learn(folder: Path) -> None:
    """Also where the backward pass computes the layers again."""
    groups = sampled_by(with_other_choices(folder), folder)
    trained = {}
    for recompute in (False, True):
        one = learner(folder, replay=True, activation_checkpointing=recompute)
        one.take(groups, 0)
        assert one.update(0)["ell_max"] == 0.0
        (packed,) = one.minibatches[0]
        assert packed.batch.routes_TLk is not None
        routed = packed.batch.routes_TLk != NO_ROUTE
        last_pass = recorded_routes(one.policy)
        assert last_pass[routed].equal(packed.batch.routes_TLk[routed])
        trained[recompute] = one.policy.get_submodule("model").state_dict()
    before = load_model(folder).state_dict()
    gates = [name for name in before if name.endswith("mlp.gate.weight")]
    assert len(gates) == LAYERS
    for name in gates:
        assert not trained[False][name].equal(before[name])
    for name, tensor in trained[False].items():
        torch.testing.assert_close(trained[True][name], tensor, atol=1e-6, rtol=0, msg=name)


def test_tokens_without_a_route_are_marked(folder: Path) -> None:
    (_shown, told) = sampled_by(load_model(folder), folder)
    bare = replace(told[0], routes=None)
    mixed = pack([bare, told[1]], lambda _image: pytest.fail("no images")).routes_TLk
    assert pack([bare], lambda _image: pytest.fail("no images")).routes_TLk is None
    assert mixed is not None
    lengths = list(map(len, told))
    routes = told[1].routes
    assert routes is not None
    assert mixed.shape == (sum(lengths), routes.layers, routes.experts)
    assert (mixed[: lengths[0]] == NO_ROUTE).all()
    assert mixed[lengths[0] : -1].numpy().tobytes() == routes.data
    assert (mixed[-1] == NO_ROUTE).all()
