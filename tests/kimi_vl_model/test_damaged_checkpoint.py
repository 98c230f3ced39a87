"""Checkpoint folders that are not whole: every fault is one error that names the file."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from kvl.configs.errors import CheckpointError
from kvl.kimi_vl_model.checkpoint import (
    INDEX_FILE,
    SINGLE_FILE,
    empty_model,
    export_checkpoint,
    load_config,
    load_model,
    persistent_state,
    tensor_problems,
)
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from safetensors import safe_open
from safetensors.torch import load_file, save_file

SOME_EXPERT = "language_model.model.layers.2.mlp.experts.5.up_proj.weight"


@pytest.fixture
def damaged(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(checkpoint, tmp_path / "damaged"))


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(folder / SINGLE_FILE) | {
        name: tensor for name, tensor in changes.items() if tensor is not None
    }
    for name in [name for name, tensor in changes.items() if tensor is None]:
        del tensors[name]
    save_file(tensors, folder / SINGLE_FILE)


def test_a_missing_weight_file_is_named(damaged: Path) -> None:
    (damaged / SINGLE_FILE).unlink()
    with pytest.raises(CheckpointError, match=SINGLE_FILE):
        load_model(damaged)


def test_a_missing_shard_is_named(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    out = export_checkpoint(persistent_state(model), checkpoint, tmp_path / "out", 300_000)
    shard = sorted(out.glob("*.safetensors"))[2]
    shard.unlink()
    with pytest.raises(CheckpointError, match=re.escape(str(shard))):
        load_model(out)


def test_a_missing_tensor_is_named(damaged: Path) -> None:
    rewrite(damaged, **{SOME_EXPERT: None})
    with pytest.raises(CheckpointError, match=re.escape(SOME_EXPERT)) as error:
        load_model(damaged)
    assert str(damaged) in str(error.value)


def test_a_tensor_that_only_the_index_knows_is_named(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    out = export_checkpoint(persistent_state(model), checkpoint, tmp_path / "out")
    index = json.loads((out / INDEX_FILE).read_text())
    index["weight_map"]["ghost.weight"] = "model-00001-of-00001.safetensors"
    (out / INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"model-00001-of-00001.*ghost\.weight is missing"):
        load_model(out)


def test_an_extra_tensor_is_named(damaged: Path) -> None:
    rewrite(damaged, **{"language_model.model.layers.9.odd": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=rf"{SINGLE_FILE}.*layers\.9\.odd"):
        load_model(damaged)


def test_a_wrong_shape_is_named_with_both_shapes(damaged: Path) -> None:
    rewrite(damaged, **{SOME_EXPERT: torch.zeros(3, 5)})
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*5\.up_proj.*\(3, 5\).*64, 128"):
        load_model(damaged)


@pytest.mark.parametrize("kept", [0, 5, 1000, -100])
def test_a_truncated_file_is_named(damaged: Path, kept: int) -> None:
    file = damaged / SINGLE_FILE
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=rf"{SINGLE_FILE}: (damaged|truncated)"):
        load_model(damaged)


def test_a_truncated_tensor_is_named(damaged: Path) -> None:
    file = damaged / SINGLE_FILE
    with safe_open(file, framework="pt") as reader:
        last = max(reader.keys())  # safetensors writes the largest dtype first, then by name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=rf"{SINGLE_FILE}: truncated in tensor {last}"):
        load_model(damaged)


def test_a_tensor_that_the_index_forgot_is_named(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    out = export_checkpoint(persistent_state(model), checkpoint, tmp_path / "out")
    index = json.loads((out / INDEX_FILE).read_text())
    shard = index["weight_map"].pop(SOME_EXPERT)
    (out / INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=rf"{shard}: tensor {SOME_EXPERT} is not in"):
        load_model(out)


def test_every_problem_is_found_at_once(damaged: Path) -> None:
    rewrite(
        damaged,
        **{
            SOME_EXPERT: None,
            "odd": torch.zeros(2),
            "vision_tower.patch_embed.proj.bias": torch.zeros(3),
        },
    )
    problems = tensor_problems(damaged, empty_model(load_config(damaged)))
    assert len(problems) == 3
    assert all(problem.startswith(str(damaged / SINGLE_FILE)) for problem in problems)
    with pytest.raises(CheckpointError, match="2 more, see kvl-sft inspect"):
        load_model(damaged)


@pytest.mark.parametrize(
    ("name", "value"), [("topk_method", "greedy"), ("rope_scaling", {"type": "yarn"})]
)
def test_a_setting_that_would_be_ignored_is_refused(damaged: Path, name: str, value: Any) -> None:
    settings = json.loads((damaged / "config.json").read_text())
    settings["text_config"][name] = value
    (damaged / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=rf"config\.json: text_config\.{name} is"):
        load_model(damaged)


@pytest.mark.parametrize("content", ["", '{"weight_map": {"a"', '{"metadata": {}}', "[]"])
def test_a_damaged_index_is_named(damaged: Path, content: str) -> None:
    (damaged / INDEX_FILE).write_text(content)
    with pytest.raises(CheckpointError, match=re.escape(INDEX_FILE)):
        load_model(damaged)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"model_type": "llama"}'])
def test_a_missing_damaged_or_foreign_config_is_named(damaged: Path, content: str | None) -> None:
    if content is None:
        (damaged / "config.json").unlink()
    else:
        (damaged / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(damaged)
