"""The published checkpoint layout: read tensor by tensor, written atomically.

transformers keeps a layer's routed experts as two stacked tensors (`experts.gate_up_proj`,
`experts.down_proj`); published files hold gate, up and down of each expert apart. `targets`
is the one table that knows both, used for loading, export and weight sync alike.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
    DeepseekV3RotaryEmbedding,
    DeepseekV3TopkRouter,
)

from ..configs.errors import CheckpointError
from .configuration import KimiVLConfig
from .modeling import KimiVLForConditionalGeneration

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
MAX_SHARD_BYTES = 5 * 10**9
_STALE_BUFFER = re.compile(r"\.rotary_emb\.inv_freq$")


def load_config(folder: str | Path) -> KimiVLConfig:
    """`config.json` of a checkpoint folder. Raises CheckpointError if it is missing or foreign."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; is {folder} a checkpoint folder?")
    settings = _read_object(path)
    if settings.get("model_type") != KimiVLConfig.model_type:
        raise CheckpointError(
            f"{path}: model_type is {settings.get('model_type')!r}, not 'kimi_vl'"
        )
    return KimiVLConfig(**{key: settings[key] for key in settings if key != "model_type"})


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return value


def published_tensors(
    state: Iterable[tuple[str, torch.Tensor]],
) -> Iterator[tuple[str, torch.Tensor]]:
    """(published name, view) of every tensor of a model's state; fused experts are unstacked."""
    for name, tensor in state:
        prefix, dot, leaf = name.rpartition(".experts.")
        if not dot:
            yield name, tensor
        elif leaf == "down_proj":
            for expert in range(tensor.shape[0]):
                yield f"{prefix}.experts.{expert}.down_proj.weight", tensor[expert]
        else:
            half = tensor.shape[1] // 2
            for expert in range(tensor.shape[0]):
                yield f"{prefix}.experts.{expert}.gate_proj.weight", tensor[expert, :half]
                yield f"{prefix}.experts.{expert}.up_proj.weight", tensor[expert, half:]


def _files_of(folder: Path) -> dict[str, list[str]]:
    """File name → tensor names, from the index or from the single file."""
    index = folder / INDEX_FILE
    if index.is_file():
        files: dict[str, list[str]] = {}
        weight_map = _read_object(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{index}: has no weight_map")
        for tensor, file in weight_map.items():
            files.setdefault(file, []).append(tensor)
        return files
    single = folder / SINGLE_FILE
    if not single.is_file():
        raise CheckpointError(f"{folder}: holds neither {INDEX_FILE} nor {SINGLE_FILE}")
    with _open(single) as reader:
        return {SINGLE_FILE: list(reader.keys())}


def _open(path: Path):
    if not path.is_file():
        raise CheckpointError(f"{path}: missing, though the index names it")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged or truncated ({error})") from error


def iterate_tensors(folder: str | Path) -> Iterator[tuple[str, torch.Tensor, Path]]:
    """(name, tensor, file) of a checkpoint, one tensor in memory at a time."""
    folder = Path(folder)
    for file, names in _files_of(folder).items():
        with _open(folder / file) as reader:
            held = set(reader.keys())
            for name in names:
                if name not in held:
                    raise CheckpointError(f"{folder / file}: tensor {name} is missing")
                yield name, reader.get_tensor(name), folder / file


def load_model(
    folder: str | Path, dtype: torch.dtype = torch.float32
) -> KimiVLForConditionalGeneration:
    """Build the model and fill it tensor by tensor: peak memory is the model and one tensor.

    Raises CheckpointError naming file and tensor for anything missing, extra or mis-shaped.
    The router's selection bias stays in fp32 whatever `dtype` says.
    """
    config = load_config(folder)
    previous = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with torch.device("meta"):
            model = KimiVLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(previous)
    model.to_empty(device="cpu")
    for module in model.modules():
        # to_empty also emptied the rotary tables, which no file holds.
        if isinstance(module, DeepseekV3RotaryEmbedding):
            inv_freq, _scale = module.compute_default_rope_parameters(config.text_config)
            module.register_buffer("inv_freq", inv_freq, persistent=False)
            module.register_buffer("original_inv_freq", inv_freq.clone(), persistent=False)
        if isinstance(module, DeepseekV3TopkRouter):
            module.register_buffer(
                "e_score_correction_bias", module.e_score_correction_bias.float()
            )
    targets = dict(published_tensors(persistent_state(model)))
    seen: set[str] = set()
    for name, tensor, file in iterate_tensors(folder):
        if _STALE_BUFFER.search(name):
            continue
        if name not in targets:
            raise CheckpointError(f"{file}: tensor {name} is not part of this architecture")
        if tensor.shape != targets[name].shape:
            raise CheckpointError(
                f"{file}: tensor {name} has shape {tuple(tensor.shape)}, "
                f"the config asks for {tuple(targets[name].shape)}"
            )
        targets[name].copy_(tensor)
        seen.add(name)
    if missing := sorted(set(targets) - seen):
        raise CheckpointError(f"{folder}: {len(missing)} tensor(s) missing, first {missing[0]}")
    model.eval()
    return model


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
    the other files of the checkpoint `source`, with the dtypes that `source` has.

    Shards are filled one at a time, so one shard is the most that is held beside the model. The
    folder appears under its final name only when complete.
    """
    source, out = Path(source), Path(out)
    dtypes: dict[str, torch.dtype] = {}
    stale: dict[str, torch.Tensor] = {}
    for name, tensor, _file in iterate_tensors(source):
        dtypes[name] = tensor.dtype
        if _STALE_BUFFER.search(name):
            stale[name] = tensor
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file() and file.suffix != ".safetensors" and file.name != INDEX_FILE:
            shutil.copyfile(file, partial / file.name)
    writer = _ShardWriter(partial, max_shard_bytes)
    for name, tensor in published_tensors(state):
        if name not in dtypes:
            raise CheckpointError(f"{source}: has no tensor {name}, so it cannot be exported")
        writer.add(name, tensor.to("cpu", dtypes.pop(name)))
    for name, tensor in stale.items():
        writer.add(name, tensor)
        dtypes.pop(name)
    if dtypes:
        raise CheckpointError(f"{out}: the model lacks {len(dtypes)} tensor(s) of {source}")
    writer.finish()
    replace_folder(partial, out)
    return out


def replace_folder(partial: Path, out: Path) -> None:
    """Rename a finished folder into place, over an older one if there is one."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(partial, out)
    shutil.rmtree(old, ignore_errors=True)


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
