"""How far engine and learner are apart with equal weights, and with weights that are not.

The bounds of a sync's proof (`rl/loop/sync.py`) are chosen from this table: mean and 90 % quantile
of |log π − log μ| over sampled tokens, for engines in fp32 and bf16, with the learner's weights
equal, after one optimizer step that the engine did not get, and with one tensor missing.

Two tiny checkpoints: "fresh" weights, and "lively" ones of unit gain, whose distributions are as
peaked as a trained model's. Writes benchmarks/results/agreement.json.

usage: python benchmarks/agreement.py
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kvl.configs.rl import RLConfig
from kvl.kimi_vl_model.checkpoint import export_checkpoint, load_model, persistent_state
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.problems.synthetic import generate
from kvl.problems.synthetic.texts import written_texts
from kvl.rl.learner.batch import TokenSequence, rollout_sequence
from kvl.rl.learner.learner import Learner
from kvl.rl.learner.parallelism import RankAddress
from kvl.rollouts.fleet import Fleet
from kvl.rollouts.types import SamplingSettings

RESULTS = Path(__file__).parent / "results" / "agreement.json"
PROBLEMS, SAMPLES, TOKENS = 24, 4, 48


@torch.no_grad()
def enliven(model: torch.nn.Module) -> None:
    """Matrices of unit gain, so that log-probs are far from uniform."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.named_parameters():
        if tensor.ndim > 1:
            fan_in = tensor.shape[1:].numel() if "patch_embed" in name else tensor.shape[-1]
            scale = 1.0 if "embed_tokens" in name or "pos_emb" in name else fan_in**-0.5
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)


def checkpoints(folder: Path) -> dict[str, Path]:
    fresh = write_tiny_checkpoint(folder / "fresh", written_texts())
    model = load_model(fresh)
    enliven(model)
    return {
        "fresh": fresh,
        "lively": export_checkpoint(persistent_state(model), fresh, folder / "lively"),
    }


def measured(checkpoint: Path, dtype: str) -> dict[str, Any]:
    problems = list(generate("heldout", PROBLEMS, ("counting", "compare"), (1, 2), 0))
    config = RLConfig.model_validate(
        {
            "run_dir": checkpoint.parent / "run",
            "checkpoint": checkpoint,
            "problems": {"path": "unused.jsonl"},
            "rollout": {
                "max_response_tokens": TOKENS,
                "engine": {"dtype": dtype, "max_model_len": 1024, "max_num_seqs": 32},
            },
            "learner": {"minibatches": 1, "optimizer": {"learning_rate": 1e-4}},
        }
    )
    settings = SamplingSettings(SAMPLES, 1.0, TOKENS, seed=0)
    with Fleet(checkpoint, config.rollout) as fleet:
        rollouts, _failures = fleet.generate(problems, settings)
    by_id = {problem.id: problem for problem in problems}
    sequences = [rollout_sequence(by_id[r.problem_id], r, (-1.0) ** r.sample) for r in rollouts]
    learner = Learner(config, RankAddress(0, 1, "", 0))
    table = {"equal weights": spread(learner.score(sequences, 0))}
    table["one tensor of another seed"] = changed(learner, sequences, other_tensor)
    learner.take([sequences], 0)
    learner.update(0)
    table["one step of 1e-4 ahead"] = spread(learner.score(sequences, 0))
    return table


def changed(
    learner: Learner, sequences: list[TokenSequence], change: Callable[[Learner], None]
) -> dict[str, float]:
    before = {name: p.detach().clone() for name, p in learner.policy.named_parameters()}
    change(learner)
    result = spread(learner.score(sequences, 0))
    with torch.no_grad():
        for name, parameter in learner.policy.named_parameters():
            parameter.copy_(before[name])
    return result


@torch.no_grad()
def other_tensor(learner: Learner) -> None:
    for name, parameter in learner.policy.named_parameters():
        if name.endswith("layers.1.self_attn.o_proj.weight"):
            parameter.copy_(parameter.flip(0))
            return
    raise AssertionError("no such tensor")


def spread(differences: list[float]) -> dict[str, float]:
    values = torch.tensor(differences)
    return {
        "tokens": len(differences),
        "mean": float(values.mean()),
        "q90": float(values.quantile(0.9)),
        "q99": float(values.quantile(0.99)),
        "max": float(values.max()),
    }


def main() -> None:
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, checkpoint in checkpoints(Path(folder)).items():
            for dtype in ("float32", "bfloat16"):
                results[f"{name}, engine {dtype}"] = measured(checkpoint, dtype)
                print(f"{name}, engine {dtype}")
                for case, row in results[f"{name}, engine {dtype}"].items():
                    print("  ", case, {key: float(f"{value:.3g}") for key, value in row.items()})
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
