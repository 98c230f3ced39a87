"""LoRA through peft, for both stages: low-rank updates of the decoder's matrices, saved as
adapters, and merged one tensor at a time for whoever needs the plain model.

The plain names below are those that the model's tensors have without adapters.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer, ParamWrapper
from safetensors.torch import save_file
from torch import nn
from torch.distributed.tensor import DTensor

from ...configs.common import LoRAConfig
from ..checkpoint import persistent_state
from ..files.folders import checkpoint_folder
from ..modeling import KimiVLForConditionalGeneration
from ..slices import local_rows, whole

# Attention, the dense layer's MLP and the shared experts.
_MATRICES = (
    r"language_model\.model\.layers\.\d+\."
    r"(self_attn\.(q_proj|kv_a_proj_with_mqa|kv_b_proj|o_proj)"
    r"|mlp\.(shared_experts\.)?(gate_proj|up_proj|down_proj))"
)
# Fused over the experts of a layer; each expert gets a low-rank pair of its own.
_ROUTED_EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]
_ADAPTER_PART = re.compile(r"\.lora_[AB]\.")


def add_adapters(model: KimiVLForConditionalGeneration, config: LoRAConfig) -> PeftModel:
    """Put adapters into `model`, in place, and freeze everything else.

    A is drawn from torch's global generator, B is zero (`reset_adapters`, which a model without
    memory must be given once it has some). The model stays usable under its own class; the object
    returned is what `save_adapter` needs.
    """
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=_MATRICES,
        target_parameters=_ROUTED_EXPERTS if config.routed_experts else None,
    )
    adapted = get_peft_model(model, settings)
    assert isinstance(adapted, PeftModel)
    if not any(parameter.is_meta for parameter in model.parameters()):
        reset_adapters(model)
    return adapted


@torch.no_grad()
def reset_adapters(model: nn.Module) -> None:
    """Start every A and B anew; a rank of several draws whole tensors and keeps its rows."""
    for name, parameter in model.named_parameters():
        part = _ADAPTER_PART.search(name)
        if part is None:
            continue
        local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        local.zero_()
        if part.group() == ".lora_A.":
            drawn = nn.init.kaiming_uniform_(torch.empty(parameter.shape), a=5**0.5)
            rows = local_rows(parameter)
            local.copy_(drawn[rows.start : rows.stop])


def adapter_tensors(adapted: PeftModel) -> dict[str, torch.Tensor]:
    """Every A and B under peft's names for files; sharded ones are gathered by all ranks."""
    tensors = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return {name: whole(tensor).cpu().contiguous() for name, tensor in tensors.items()}


def save_adapter(
    adapted: PeftModel, tensors: dict[str, torch.Tensor], source: Path, folder: Path
) -> None:
    """Write adapter_config.json and adapter_model.safetensors, which peft reads; atomically.

    tensors as from `adapter_tensors`; source is the checkpoint that they adapt. Raises KVLError
    if the folder cannot be written.
    """
    settings = adapted.peft_config["default"]
    settings.base_model_name_or_path = str(source)
    with checkpoint_folder(folder) as partial:
        settings.save_pretrained(str(partial))
        save_file(tensors, partial / "adapter_model.safetensors", metadata={"format": "pt"})


def plain_state(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(plain name, tensor) without the adapters or their effect; sharded tensors stay sharded."""
    for name, tensor in persistent_state(model):
        if not _ADAPTER_PART.search(name):
            yield _plain(name), tensor


def merged_state(
    model: nn.Module, only: Collection[str] | None = None
) -> Iterator[tuple[str, torch.Tensor]]:
    """(plain name, whole tensor) with W + (alpha / rank)·B·A in place of each adapted W.

    One tensor at a time, each sum in memory of its own: W is read and never written, so nothing
    is rounded twice. Ranks gather sharded tensors together and must iterate alike. `only` names
    the tensors wanted; the others are not touched.
    """
    state = dict(persistent_state(model))
    layers = {_plain(f"{path}.{leaf}"): (path, scale) for path, leaf, scale in _adapted(model)}
    for name, tensor in state.items():
        plain = _plain(name)
        if _ADAPTER_PART.search(name) or (only is not None and plain not in only):
            continue
        if plain not in layers:
            yield plain, whole(tensor)
            continue
        path, scale = layers[plain]
        a, b = (whole(state[f"{path}.lora_{part}.default.weight"]) for part in "AB")
        yield plain, _merged(whole(tensor), a, b, scale)


def changing_tensors(model: nn.Module) -> set[str]:
    """Plain names of the tensors that training can change, and of all others in their modules:
    an engine loads the tensors of a module together or not at all."""
    modules = set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            adapted = _ADAPTER_PART.search(name)
            modules.add(_plain(name[: adapted.start()] if adapted else name.rpartition(".")[0]))
    return {name for name, _ in plain_state(model) if name.rpartition(".")[0] in modules}


def _plain(name: str) -> str:
    return name.replace(".base_layer", "")


def _adapted(model: nn.Module) -> Iterator[tuple[str, str, float]]:
    """(path of the adapter, leaf of the tensor it adapts, alpha / rank)."""
    for path, module in model.named_modules():
        if isinstance(module, LoraLayer):
            leaf = module.parameter_name if isinstance(module, ParamWrapper) else "weight"
            yield path, leaf, module.scaling["default"]


def _merged(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """A matrix [out, in] with A [r, in], B [out, r]; or experts [E, out, in], whose pairs peft
    lays out as A [E·r, in], B [out, r·E]."""
    if weight.ndim == 2:
        return torch.addmm(weight, b, a, alpha=scale)
    experts = weight.shape[0]
    a_eri = a.unflatten(0, (experts, -1))
    b_eor = b.unflatten(1, (-1, experts)).permute(2, 0, 1)
    return torch.baddbmm(weight, b_eor, a_eri, alpha=scale)
