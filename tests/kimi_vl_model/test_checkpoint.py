from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kvl.configs.errors import CheckpointError, FileError
from kvl.kimi_vl_model.checkpoint import (
    INDEX_FILE,
    SINGLE_FILE,
    export_checkpoint,
    iterate_tensors,
    load_config,
    load_model,
    persistent_state,
    published_tensors,
)
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.kimi_vl_model.routing import recorded_routes
from kvl.kimi_vl_model.tiny import TINY_TEXT, TINY_VISION, write_tiny_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file, save_file

LAYER = r"language_model\.model\.layers\.\d+\."
NAME_FAMILIES = [
    r"language_model\.(model\.(embed_tokens|norm)|lm_head)\.weight",
    LAYER + r"(input|post_attention)_layernorm\.weight",
    LAYER + r"self_attn\.(q_proj|kv_a_proj_with_mqa|kv_a_layernorm|kv_b_proj|o_proj)\.weight",
    LAYER + r"self_attn\.rotary_emb\.inv_freq",
    LAYER + r"mlp\.(gate|up|down)_proj\.weight",
    LAYER + r"mlp\.gate\.weight",
    LAYER + r"mlp\.gate\.e_score_correction_bias",
    LAYER + r"mlp\.experts\.\d+\.(gate|up|down)_proj\.weight",
    LAYER + r"mlp\.shared_experts\.(gate|up|down)_proj\.weight",
    r"multi_modal_projector\.(pre_norm|linear_1|linear_2)\.(weight|bias)",
    r"vision_tower\.patch_embed\.(proj\.(weight|bias)|pos_emb\.weight)",
    r"vision_tower\.encoder\.blocks\.\d+\.(norm0|norm1|wqkv|wo|mlp\.fc0|mlp\.fc1)\.(weight|bias)",
    r"vision_tower\.encoder\.final_layernorm\.(weight|bias)",
]
SOME_EXPERT = "language_model.model.layers.2.mlp.experts.5.up_proj.weight"


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor, _ in iterate_tensors(folder)}


def assert_bit_equal(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(actual) == set(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        assert actual[name].equal(tensor), name


def test_load_then_export_gives_every_tensor_back(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    out = export_checkpoint(persistent_state(model), checkpoint, tmp_path / "out")
    assert_bit_equal(tensors_of(out), tensors_of(checkpoint))


def test_every_name_is_of_a_published_family_and_no_family_is_absent(checkpoint: Path) -> None:
    names = set(tensors_of(checkpoint))
    matched = {family: {n for n in names if re.fullmatch(family, n)} for family in NAME_FAMILIES}
    assert set().union(*matched.values()) == names
    assert all(matched.values())
    experts = sum(".experts." in name for name in names)
    assert experts == 2 * 8 * 3


def test_expert_slices_are_gate_up_and_down(model: KimiVLForConditionalGeneration) -> None:
    published = dict(published_tensors(persistent_state(model)))
    prefix = "language_model.model.layers.1.mlp.experts"
    gate_up = model.get_parameter(f"{prefix}.gate_up_proj")
    down = model.get_parameter(f"{prefix}.down_proj")
    width = model.config.text_config.moe_intermediate_size
    for expert in range(8):
        assert published[f"{prefix}.{expert}.gate_proj.weight"].equal(gate_up[expert, :width])
        assert published[f"{prefix}.{expert}.up_proj.weight"].equal(gate_up[expert, width:])
        assert published[f"{prefix}.{expert}.down_proj.weight"].equal(down[expert])


def test_published_tensors_are_views(model: KimiVLForConditionalGeneration) -> None:
    storages = {t.untyped_storage().data_ptr() for _, t in persistent_state(model)}
    for _, tensor in published_tensors(persistent_state(model)):
        assert tensor.untyped_storage().data_ptr() in storages


def test_other_files_are_copied_byte_for_byte(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    out = export_checkpoint(persistent_state(model), checkpoint, tmp_path / "out")
    copied = {f.name for f in checkpoint.iterdir() if f.suffix != ".safetensors"}
    assert {"config.json", "tiktoken.model", "modeling_kimi_vl.py"} <= copied
    for name in copied:
        assert (out / name).read_bytes() == (checkpoint / name).read_bytes()
    written = {f.name for f in out.iterdir()}
    assert written == copied | {INDEX_FILE, "model-00001-of-00001.safetensors"}


def test_small_shards_load_again_and_stay_small(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    limit = 300_000
    out = export_checkpoint(persistent_state(model), checkpoint, tmp_path / "out", limit)
    index = json.loads((out / INDEX_FILE).read_text())
    shards = sorted(out.glob("*.safetensors"))
    assert len(shards) > 10
    assert shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
    assert set(index["weight_map"].values()) == {shard.name for shard in shards}
    expected = tensors_of(checkpoint)
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in expected.values())
    for shard in shards:
        with safe_open(shard, framework="pt") as reader:
            assert reader.metadata() == {"format": "pt"}
            held = [reader.get_tensor(name).nbytes for name in reader.keys()]  # noqa: SIM118
        assert sum(held) <= limit or len(held) == 1
    assert_bit_equal(tensors_of(out), expected)
    again = load_model(out)
    for name, tensor in model.state_dict().items():
        assert again.state_dict()[name].equal(tensor), name
    # A sharded source works as well.
    single = export_checkpoint(persistent_state(again), out, tmp_path / "single")
    assert_bit_equal(tensors_of(single), expected)


def test_a_trained_change_reaches_exactly_its_own_tensor(checkpoint: Path, tmp_path: Path) -> None:
    model = load_model(checkpoint)
    with torch.no_grad():
        model.get_parameter("language_model.model.layers.2.mlp.experts.gate_up_proj")[5, 64:] += 1
    out = export_checkpoint(persistent_state(model), checkpoint, tmp_path / "out")
    before, after = tensors_of(checkpoint), tensors_of(out)
    assert [name for name in before if not after[name].equal(before[name])] == [SOME_EXPERT]


def test_stale_rotary_buffers_are_ignored_on_load_and_written_back(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    rotary = model.language_model.model.get_submodule("rotary_emb").get_buffer("inv_freq")
    expected = 800000.0 ** -(torch.arange(0, 64, 2).float() / 64)
    torch.testing.assert_close(rotary, expected)
    out = export_checkpoint(persistent_state(model), checkpoint, tmp_path / "out")
    stale = {n: t for n, t in tensors_of(out).items() if n.endswith("rotary_emb.inv_freq")}
    assert len(stale) == 3
    for layer in range(3):
        name = f"language_model.model.layers.{layer}.self_attn.rotary_emb.inv_freq"
        assert stale[name].equal(torch.arange(32.0) + layer)


@torch.no_grad()
def test_a_loaded_model_computes_what_the_saved_one_did(
    checkpoint: Path, model: KimiVLForConditionalGeneration
) -> None:
    original = KimiVLForConditionalGeneration(load_config(checkpoint)).eval()
    original.load_state_dict(model.state_dict())
    ids = torch.randint(0, 256, (1, 30), generator=torch.Generator().manual_seed(0))
    ids[0, 4:10] = original.config.media_placeholder_token_id
    pixels = torch.randn(24, 3, 14, 14, generator=torch.Generator().manual_seed(1))
    grids = torch.tensor([[4, 6]])
    assert model(ids, None, pixels, grids).logits.equal(original(ids, None, pixels, grids).logits)
    for name, buffer in original.named_buffers():
        assert model.get_buffer(name).equal(buffer), name


@torch.no_grad()
def test_bf16_load_keeps_selection_bias_and_rotary_table_in_fp32(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    low = load_model(checkpoint, torch.bfloat16)
    for name, tensor in low.state_dict().items():
        kept = name.endswith("e_score_correction_bias")
        assert tensor.dtype == (torch.float32 if kept else torch.bfloat16), name
        assert tensor.equal(model.state_dict()[name].to(tensor.dtype)), name
    for name, buffer in low.named_buffers():
        assert buffer.dtype == torch.float32, name
        assert buffer.equal(model.get_buffer(name)), name
    assert low(torch.arange(9)[None]).logits.isfinite().all()
    assert torch.get_default_dtype() == torch.float32
    # What comes out has the dtypes of the source whatever the model runs in.
    out = tensors_of(export_checkpoint(persistent_state(low), checkpoint, tmp_path / "out"))
    source = tensors_of(checkpoint)
    assert {n: t.dtype for n, t in out.items()} == {n: t.dtype for n, t in source.items()}


def test_a_bf16_checkpoint_survives_an_fp32_learner(checkpoint: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(checkpoint, tmp_path / "bf16"))
    low = {
        name: t if t.ndim == 1 and "bias" in name else t.bfloat16()
        for name, t in load_file(source / SINGLE_FILE).items()
    }
    save_file(low, source / SINGLE_FILE)
    out = export_checkpoint(persistent_state(load_model(source)), source, tmp_path / "out")
    assert_bit_equal(tensors_of(out), low)


def test_loaded_parameters_can_be_trained(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.is_leaf for parameter in model.parameters())
    model(torch.arange(9)[None], labels=torch.arange(9)[None]).loss.backward()
    assert model.language_model.lm_head.weight.grad is not None


def test_a_failing_export_leaves_the_old_folder_as_it_was(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    out = export_checkpoint(persistent_state(model), checkpoint, tmp_path / "out")
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def interrupted() -> Iterator[tuple[str, torch.Tensor]]:
        for number, item in enumerate(persistent_state(model)):
            if number == 40:
                raise OSError("disk full")
            yield item

    with pytest.raises(FileError, match="disk full"):
        export_checkpoint(interrupted(), checkpoint, out, 300_000)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    # The next attempt is not disturbed by what the failed one left behind.
    export_checkpoint(persistent_state(model), checkpoint, out)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failing_export_leaves_nothing_under_the_final_name(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    state = dict(persistent_state(model))
    lacking = {name: t for name, t in state.items() if name != "language_model.lm_head.weight"}
    with pytest.raises(CheckpointError, match=r"lacks 1 tensor"):
        export_checkpoint(lacking.items(), checkpoint, tmp_path / "out")
    with pytest.raises(CheckpointError, match="no tensor odd"):
        export_checkpoint({**state, "odd": torch.zeros(1)}.items(), checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_published_depth_and_expert_count_make_5679_tensors(tmp_path: Path) -> None:
    small = {"hidden_size": 32, "intermediate_size": 32, "moe_intermediate_size": 32}
    real = {"num_hidden_layers": 27, "n_routed_experts": 64, "num_experts_per_tok": 6}
    source = write_tiny_checkpoint(
        tmp_path / "source",
        texts=["a"],
        text_config={**TINY_TEXT, **small, **real, "kv_lora_rank": 32},
        vision_config={**TINY_VISION, "num_hidden_layers": 27, "hidden_size": 16},
        dtype=torch.bfloat16,
    )
    tensors = load_file(source / SINGLE_FILE)
    for layer in range(27):
        name = f"language_model.model.layers.{layer}.self_attn.rotary_emb.inv_freq"
        tensors[name] = torch.arange(32.0) + layer
    save_file(tensors, source / SINGLE_FILE)
    assert len(tensors) == 5679
    model = load_model(source)
    out = export_checkpoint(persistent_state(model), source, tmp_path / "out", 3_000_000)
    assert len(list(out.glob("*.safetensors"))) > 3
    assert_bit_equal(tensors_of(out), tensors)
    model(torch.arange(8)[None])
    assert recorded_routes(model).shape == (8, 26, 6)


def test_a_checkpoint_can_be_exported_over_its_own_source(checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "own"))
    expected = tensors_of(folder)
    export_checkpoint(persistent_state(load_model(folder)), folder, folder)
    assert_bit_equal(tensors_of(folder), expected)
    assert not (folder / SINGLE_FILE).exists()
