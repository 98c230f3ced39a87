"""What a learner needs to go on: trained tensors, optimizer and random states, by accelerate.

Frozen parameters still are those of the run's checkpoint and are not stored again, except under
FSDP2, where accelerate stores the whole model whatever its hooks say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import safe_open
from torch import nn

from ...configs.errors import CheckpointError
from ...kimi_vl_model.files.stored_tensors import SINGLE_FILE


def store_only_trained(accelerator: Accelerator) -> None:
    """Make `accelerator.save_state` leave out frozen parameters, and `load_state` check that a
    folder holds exactly the others."""
    accelerator.register_save_state_pre_hook(_drop_frozen)
    accelerator.register_load_state_pre_hook(_require_same_tensors)


def load_training_state(accelerator: Accelerator, folder: Path) -> None:
    """Raises CheckpointError if the folder was written with other adapters or frozen parts, or
    cannot be read."""
    try:
        accelerator.load_state(str(folder), strict=False)
    except CheckpointError:
        raise
    except Exception as error:  # of safetensors, pickle, zipfile or torch, as a file is damaged
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(
            f"{folder}: cannot be loaded ({reason}); delete it to go on from the one before"
        ) from error


def _frozen(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if not p.requires_grad}


def _drop_frozen(
    models: list[nn.Module], states: list[dict[str, torch.Tensor]], _folder: str
) -> None:
    for model, state in zip(models, states, strict=False):  # FSDP2 hands over no states
        for name in _frozen(model):
            del state[name]


def _require_same_tensors(models: list[nn.Module], folder: str) -> None:
    for model in models:
        expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        optional = _frozen(model)
        file = Path(folder) / SINGLE_FILE
        with safe_open(file, "pt") as stored:
            found: dict[str, Any] = {
                name: stored.get_slice(name).get_shape()
                for name in stored.keys()  # noqa: SIM118
            }
        wrong = [name for name, shape in found.items() if expected.get(name) != shape]
        wrong += [name for name in expected if name not in found and name not in optional]
        if wrong:
            raise CheckpointError(
                f"{file}: does not fit learner.lora and learner.freeze of this run (tensor "
                f"{wrong[0]}); set them as they were, or choose another run_dir"
            )
