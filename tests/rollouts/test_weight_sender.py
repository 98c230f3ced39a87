"""What the nccl and ipc backends are given; the transfer itself needs GPUs and is not run."""

from __future__ import annotations

from pathlib import Path

import torch
from kvl.kimi_vl_model.checkpoint import load_model
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.problems.synthetic.texts import written_texts
from kvl.rl.learner.outgoing_weights import PolicyWeights
from kvl.rl.learner.parallelism import RankAddress
from kvl.rollouts.weights.weight_sender import PublishedWeights


def test_tensors_come_as_announced_and_selection_biases_are_not_rounded(tmp_path: Path) -> None:
    model = load_model(write_tiny_checkpoint(tmp_path / "tiny", written_texts()))
    weights = PublishedWeights(PolicyWeights(model, None, RankAddress(0, 1, "", 0)), torch.bfloat16)
    sent = [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in weights]
    assert sent == [(meta.name, meta.dtype, tuple(meta.shape)) for meta in weights.metadata()]
    exact = {name for name, dtype, _shape in sent if dtype == torch.float32}
    assert exact
    assert exact == {name for name, *_ in sent if name.endswith("e_score_correction_bias")}
