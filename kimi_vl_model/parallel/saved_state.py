"""What a run needs to go on: trained tensors, buffers and optimizer state, from any number of
ranks to any other.

Written by torch.distributed.checkpoint, every rank its own slices. Frozen parameters still are
those of the checkpoint that the run started from. State that the optimizer does not have is not
stored, and does not come to be by saving or loading: a moment of zero is not the same as none.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from ...configs.errors import CheckpointError
from .optimizer import ShardedOptimizer

_MODEL, _OPTIMIZER = "model/", "optimizer/"


def save_state(folder: Path, model: nn.Module, optimizer: ShardedOptimizer) -> None:
    """Write `folder`; complete when it holds `.metadata`."""
    state: dict[str, Any] = {_MODEL + name: t for name, t in _trained(model).items()}
    for name, own in optimizer.state.items():
        for key, value in own.items():
            state[f"{_OPTIMIZER}{name}/{key}"] = _as_slice_of(optimizer, name, value)
    with _quiet_alone():
        save(state, checkpoint_id=folder)


def load_state(folder: Path, model: nn.Module, optimizer: ShardedOptimizer) -> None:
    """Raises CheckpointError if the folder is incomplete or damaged, or was written with other
    adapters, frozen parts or another optimizer."""
    try:
        _load(folder, model, optimizer)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder}: holds no complete learner state ({error.filename}); choose another run_dir"
        ) from error
    except (Exception, CheckpointException) as error:  # whatever a damaged file leads to
        if isinstance(error, CheckpointException):  # of the rank that failed first
            error = next(iter(error.failures.values()))[0]
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(
            f"{folder}: cannot be loaded ({reason}); delete it to go on from the one before"
        ) from error


def _load(folder: Path, model: nn.Module, optimizer: ShardedOptimizer) -> None:
    metadata = FileSystemReader(folder).read_metadata().state_dict_metadata
    stored = {
        name: entry for name, entry in metadata.items() if isinstance(entry, TensorStorageMetadata)
    }
    trained = _trained(model)
    _require_same(folder, stored, trained)
    states = _empty_states(folder, stored, optimizer)
    wanted: dict[str, Any] = {_MODEL + name: tensor for name, tensor in trained.items()}
    for name, own in states.items():
        for key, value in own.items():
            wanted[f"{_OPTIMIZER}{name}/{key}"] = _as_slice_of(optimizer, name, value)
    with _quiet_alone():
        load(wanted, checkpoint_id=folder)
    optimizer.replace_state(states)


@contextmanager
def _quiet_alone() -> Iterator[None]:
    with warnings.catch_warnings():
        # One rank without a process group is meant, as torch guesses aloud.
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    state = model.state_dict()
    return {name: tensor.detach() for name, tensor in state.items() if name not in frozen}


def _require_same(
    folder: Path, stored: dict[str, TensorStorageMetadata], trained: dict[str, torch.Tensor]
) -> None:
    found = {
        name.removeprefix(_MODEL): tuple(entry.size)
        for name, entry in stored.items()
        if name.startswith(_MODEL)
    }
    expected = {name: tuple(tensor.shape) for name, tensor in trained.items()}
    wrong = [n for n in {**expected, **found} if found.get(n) != expected.get(n)]
    if wrong:
        raise CheckpointError(
            f"{folder}: does not fit learner.lora and learner.freeze of this run (tensor "
            f"{wrong[0]}); set them as they were, or choose another run_dir"
        )


def _empty_states(
    folder: Path, stored: dict[str, TensorStorageMetadata], optimizer: ShardedOptimizer
) -> dict[str, dict[str, torch.Tensor]]:
    """Memory for the stored state of what this rank steps; nothing where nothing is stored."""
    states: dict[str, dict[str, torch.Tensor]] = {}
    for full_name, entry in stored.items():
        if not full_name.startswith(_OPTIMIZER):
            continue
        name, _, key = full_name.removeprefix(_OPTIMIZER).rpartition("/")
        if name not in optimizer.named or key not in optimizer.state_keys(name):
            raise CheckpointError(
                f"{folder}: does not fit learner.optimizer of this run ({key} of {name}); set it "
                "as it was, or choose another run_dir"
            )
        if name not in optimizer.stepped:
            continue
        like = optimizer.stepped_slice(name) if entry.size else None
        value = torch.zeros(entry.size) if like is None else torch.zeros_like(like)
        states.setdefault(name, {})[key] = value.to(entry.properties.dtype)
    return states


def _as_slice_of(optimizer: ShardedOptimizer, name: str, value: torch.Tensor) -> torch.Tensor:
    """A moment of a slice, placed as the slice is; whole and scalar ones as they are."""
    parameter = optimizer.named[name]
    if not isinstance(parameter, DTensor) or name in optimizer.owners or not value.ndim:
        return value
    return DTensor.from_local(
        value,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
