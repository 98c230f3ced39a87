"""`kvl-sft merge`: the weighted mean of checkpoints, one tensor in memory at a time.

The simplest long2short of Kimi k1.5 (§2.4): a long-CoT checkpoint averaged with a short one answers
with fewer tokens, without any training.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from ..configs.errors import ConfigError
from ..configs.system.files import file_errors
from ..kimi_vl_model.checkpoint import export_checkpoint
from ..kimi_vl_model.files.stored_tensors import StoredTensor, raise_first, stored_tensors

# safetensors copies a shard to write it: small ones keep the peak at a few gigabytes.
SHARD_BYTES = 10**9


def merge(
    checkpoints: Sequence[Path],
    weights: Sequence[float] | None,
    out: Path,
    max_shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write Σ weight · tensor to `out`, computed in fp32 and stored in the first one's dtypes.

    Every other file (config, tokenizer) is the first checkpoint's. `weights` None averages. One
    shard is held in memory, a few times over while it is written; `out` appears only when complete.
    Raises ConfigError for weights that do not fit, CheckpointError naming file and tensor where
    the checkpoints differ in names or shapes, and KVLError if `out` cannot be written.
    """
    shares = mixing_weights(len(checkpoints), weights)
    with file_errors(out):
        exists = os.path.lexists(out)
    if exists:
        raise ConfigError(f"--out {out}: already exists; choose another folder or delete it")
    tables = [_headers(folder) for folder in checkpoints]
    first, *others = tables
    raise_first([problem for other in others for problem in _differences(first, other)])
    with Progress(console=Console(stderr=True), transient=True) as progress:
        merged = _weighted_means(tables, shares)
        tracked = progress.track(merged, total=len(first), description="merging tensors")
        return export_checkpoint(tracked, checkpoints[0], out, max_shard_bytes)


def mixing_weights(count: int, weights: Sequence[float] | None) -> tuple[float, ...]:
    """One share per checkpoint, adding up to 1. Raises ConfigError otherwise."""
    if count < 2:
        raise ConfigError(f"{count} checkpoint: merging needs at least two")
    if not weights:
        return (1 / count,) * count
    if len(weights) != count:
        raise ConfigError(f"--weights: {len(weights)} for {count} checkpoints; give one for each")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise ConfigError(f"--weights {_spaced(weights)}: must not be negative")
    if abs(sum(weights) - 1) > 1e-6:
        raise ConfigError(f"--weights {_spaced(weights)}: must add up to 1, not {sum(weights):g}")
    return tuple(weights)


def _spaced(weights: Sequence[float]) -> str:
    return " ".join(f"{weight:g}" for weight in weights)


def _headers(folder: Path) -> dict[str, StoredTensor]:
    stored, problems = stored_tensors(folder)
    raise_first(problems)
    return stored


def _differences(first: dict[str, StoredTensor], other: dict[str, StoredTensor]) -> Iterator[str]:
    """Where `other` cannot be added to `first`, file and tensor each."""
    for name, tensor in first.items():
        if name not in other:
            yield f"{tensor.file}: tensor {name} has no counterpart in {_folder(other)}"
        elif other[name].shape != tensor.shape:
            yield (
                f"{other[name].file}: tensor {name} has shape {other[name].shape}, "
                f"in {tensor.file} it is {tensor.shape}"
            )
    for name in other.keys() - first.keys():
        yield f"{other[name].file}: tensor {name} has no counterpart in {_folder(first)}"


def _folder(table: dict[str, StoredTensor]) -> Path:
    return next(iter(table.values())).file.parent


def _weighted_means(
    tables: Sequence[dict[str, StoredTensor]], shares: Sequence[float]
) -> Iterator[tuple[str, torch.Tensor]]:
    """(published name, fp32 mean) in the order of the first checkpoint."""
    for name, tensor in tables[0].items():
        mean = torch.zeros(tensor.shape)
        for table, share in zip(tables, shares, strict=True):
            mean.add_(table[name].read().float(), alpha=share)
        yield name, mean
