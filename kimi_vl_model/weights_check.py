"""Whether a checkpoint folder can be trained and served, found out without reading its weights."""

from __future__ import annotations

from pathlib import Path

import torch

from ..configs.errors import CheckpointError
from .checkpoint import iterate_tensors, load_config, published_tensors
from .modeling import KimiVLForConditionalGeneration


def check_weights(folder: Path) -> None:
    """Raise CheckpointError unless the folder holds every weight in its shape.

    Files are mapped and not read. vLLM itself would serve a model with a tensor missing.
    """
    with torch.device("meta"):
        model = KimiVLForConditionalGeneration(load_config(folder))
    missing = {name: tensor.shape for name, tensor in published_tensors(model.state_dict().items())}
    for name, tensor, file in iterate_tensors(folder):
        shape = missing.pop(name, tensor.shape)
        if tensor.shape != shape:
            raise CheckpointError(
                f"{file}: tensor {name} has shape {tuple(tensor.shape)}, "
                f"the config asks for {tuple(shape)}"
            )
    if missing:
        raise CheckpointError(f"{folder}: {len(missing)} tensor(s) missing, first {min(missing)}")
