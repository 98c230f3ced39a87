"""The published checkpoint layout: checked, loaded, and written atomically.

transformers keeps a layer's routed experts as two stacked tensors (`experts.gate_up_proj`,
`experts.down_proj`); published files hold gate, up and down of each expert apart.
`published_tensors` is the one place that knows both, for loading, export and weight sync alike.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
    DeepseekV3RotaryEmbedding,
    DeepseekV3TopkRouter,
)

from ..configs.errors import CheckpointError
from ..configs.system.inputs import require_checkpoint
from .configuration import KimiVLConfig
from .files.folders import checkpoint_folder, copy_other_files
from .files.json_files import read_object, shown, shown_name
from .files.settings import check_model
from .files.stored_tensors import (
    INDEX_FILE,
    SINGLE_FILE,
    files_of,
    iterate_tensors,
    raise_first,
    stored_tensors,
)
from .modeling import KimiVLForConditionalGeneration

MAX_SHARD_BYTES = 5 * 10**9
_STALE_BUFFER = re.compile(r"\.rotary_emb\.inv_freq$")
# What the decoder computes whatever its config says; other values would be quietly ignored.
_FIXED_SETTINGS = {
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "moe_layer_freq": 1,
    "rope_scaling": None,
    "tie_word_embeddings": False,
}


def load_config(folder: str | Path) -> KimiVLConfig:
    """`config.json` of a checkpoint folder. Raises CheckpointError if it is missing or foreign."""
    require_checkpoint(folder)
    path = Path(folder) / "config.json"
    settings = read_object(path)
    if settings.get("model_type") != KimiVLConfig.model_type:
        raise CheckpointError(
            f"{path}: model_type is {shown(settings.get('model_type'))}, not 'kimi_vl'"
        )
    for name in ("text_config", "vision_config"):
        if not isinstance(settings.get(name) or {}, dict):
            raise CheckpointError(f"{path}: {name} is not a JSON object")
    text = settings.get("text_config") or {}
    for name, value in _FIXED_SETTINGS.items():
        given = text.get(name, value)
        if given != value or type(given) is not type(value):
            raise CheckpointError(
                f"{path}: text_config.{name} is {shown(given)}, only {value!r} is supported"
            )
    check_model(settings, path)
    try:
        return KimiVLConfig(**{key: settings[key] for key in settings if key != "model_type"})
    except Exception as error:  # transformers' own checks of keys that we leave to it
        reason = shown_name(" ".join(str(error).split()))
        raise CheckpointError(f"{path}: transformers does not take it: {reason}") from error


def empty_model(config: KimiVLConfig) -> KimiVLForConditionalGeneration:
    """The model on the meta device: names and shapes without memory."""
    with torch.device("meta"):
        return KimiVLForConditionalGeneration(config)


def published_tensors(
    state: Iterable[tuple[str, torch.Tensor]],
) -> Iterator[tuple[str, torch.Tensor]]:
    """(published name, view) of every tensor of a model's state; fused experts are unstacked.

    Tensors that already have their published name pass as they are.
    """
    for name, tensor in state:
        prefix, _, leaf = name.rpartition(".experts.")
        if leaf not in ("down_proj", "gate_up_proj"):
            yield name, tensor
        elif leaf == "down_proj":
            for expert in range(tensor.shape[0]):
                yield f"{prefix}.experts.{expert}.down_proj.weight", tensor[expert]
        else:
            half = tensor.shape[1] // 2
            for expert in range(tensor.shape[0]):
                yield f"{prefix}.experts.{expert}.gate_proj.weight", tensor[expert, :half]
                yield f"{prefix}.experts.{expert}.up_proj.weight", tensor[expert, half:]


def tensor_problems(folder: str | Path, model: torch.nn.Module) -> list[str]:
    """Every way in which the files of a checkpoint are not those of `model`, which may be empty.

    Each names file and tensor: missing, extra, mis-shaped or truncated.
    """
    folder = Path(folder)
    stored, problems = stored_tensors(folder)
    listed = {name for names in files_of(folder).values() for name in names}
    expected = {name: tuple(t.shape) for name, t in published_tensors(persistent_state(model))}
    for name, tensor in stored.items():
        if name in expected and tensor.shape != expected[name]:
            problems.append(
                f"{tensor.file}: tensor {name} has shape {tensor.shape}, "
                f"the config asks for {expected[name]}"
            )
        elif name not in expected and not _STALE_BUFFER.search(name):
            problems.append(
                f"{tensor.file}: tensor {shown_name(name)} is not part of this architecture"
            )
    table = folder / (INDEX_FILE if (folder / INDEX_FILE).is_file() else SINGLE_FILE)
    problems += [f"{table}: tensor {name} is missing" for name in expected if name not in listed]
    return problems


def load_model(
    folder: str | Path, dtype: torch.dtype = torch.float32
) -> KimiVLForConditionalGeneration:
    """Build the model and fill it tensor by tensor: peak memory is the model and one tensor.

    Raises CheckpointError naming file and tensor for anything missing, extra, mis-shaped or
    truncated. The router's selection bias stays in fp32 whatever `dtype` says.
    """
    config = load_config(folder)
    previous = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        model = empty_model(config)
    finally:
        torch.set_default_dtype(previous)
    raise_first(tensor_problems(folder, model))
    model.to_empty(device="cpu")
    restore_buffers(model)
    targets = dict(published_tensors(persistent_state(model)))
    for name, tensor, _file in iterate_tensors(folder):
        if not _STALE_BUFFER.search(name):
            targets[name].copy_(tensor)
    model.eval()
    return model


def restore_buffers(model: KimiVLForConditionalGeneration) -> None:
    """Make buffers whole again after `to_empty`: the rotary tables, which no file holds, and the
    router's selection bias, which is fp32 whatever the parameters are."""
    for module in model.modules():
        if isinstance(module, DeepseekV3RotaryEmbedding):
            inv_freq, _scale = module.compute_default_rope_parameters(module.config)
            inv_freq = inv_freq.to(module.inv_freq.device)
            module.register_buffer("inv_freq", inv_freq, persistent=False)
            module.register_buffer("original_inv_freq", inv_freq.clone(), persistent=False)
        if isinstance(module, DeepseekV3TopkRouter):
            module.register_buffer(
                "e_score_correction_bias", module.e_score_correction_bias.float()
            )


def persistent_state(
    model: torch.nn.Module,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Detached parameters and persistent buffers, by name and without copying."""
    for name, tensor in model.state_dict().items():
        yield name, tensor.detach()


def export_checkpoint(
    state: Iterable[tuple[str, torch.Tensor]],
    source: str | Path,
    out: str | Path,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Path:
    """Write `out` in the published layout: the tensors of `state` beside byte-for-byte copies of
    the other files of the checkpoint `source`, with the dtypes that `source` has. Weights in other
    formats and training states that lie in `source` are not copied.

    Shards are filled one at a time, so one shard is the most that is held beside the model. The
    folder appears under its final name only when complete. Raises CheckpointError if the tensors
    are not those of `source`, KVLError if `out` cannot be written.
    """
    source, out = Path(source), Path(out)
    stored, problems = stored_tensors(source)
    raise_first(problems)
    dtypes = {name: tensor.dtype for name, tensor in stored.items()}
    with checkpoint_folder(out) as partial:
        copy_other_files(source, partial)
        writer = _ShardWriter(partial, max_shard_bytes)
        for name, tensor in published_tensors(state):
            if name not in dtypes:
                raise CheckpointError(f"{source}: has no tensor {name}, so it cannot be exported")
            writer.add(name, tensor.to("cpu", dtypes.pop(name)))
        for name in [name for name in dtypes if _STALE_BUFFER.search(name)]:
            writer.add(name, stored[name].read())
            del dtypes[name]
        if dtypes:
            raise CheckpointError(
                f"{out}: the model lacks {len(dtypes)} tensor(s) of {source}, "
                f"first {next(iter(dtypes))}"
            )
        writer.finish()
    return out


class _ShardWriter:
    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self.shard: dict[str, torch.Tensor] = {}
        self.shard_bytes = 0
        self.shards: list[list[str]] = []
        self.total_bytes = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        if self.shard and self.shard_bytes + tensor.nbytes > self.max_bytes:
            self._flush()
        self.shard[name] = tensor.contiguous()
        self.shard_bytes += tensor.nbytes
        self.total_bytes += tensor.nbytes

    def _flush(self) -> None:
        path = self.folder / f"{len(self.shards)}.safetensors"
        save_file(self.shard, path, metadata={"format": "pt"})
        self.shards.append(list(self.shard))
        self.shard, self.shard_bytes = {}, 0

    def finish(self) -> None:
        self._flush()
        count = len(self.shards)
        weight_map: dict[str, str] = {}
        for number, names in enumerate(self.shards):
            file = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
            os.replace(self.folder / f"{number}.safetensors", self.folder / file)
            weight_map.update(dict.fromkeys(names, file))
        index = {"metadata": {"total_size": self.total_bytes}, "weight_map": weight_map}
        (self.folder / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True))
