"""LoRA through peft: train low-rank updates of the decoder's matrices, keep them or merge them."""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

from ..configs.sft import LoRAConfig
from ..kimi_vl_model.checkpoint import replace_folder
from ..kimi_vl_model.modeling import KimiVLForConditionalGeneration

# Attention, the dense layer's MLP and the shared experts.
_MATRICES = (
    r"language_model\.model\.layers\.\d+\."
    r"(self_attn\.(q_proj|kv_a_proj_with_mqa|kv_b_proj|o_proj)"
    r"|mlp\.(shared_experts\.)?(gate_proj|up_proj|down_proj))"
)
# Fused over the experts of a layer; each expert gets a low-rank pair of its own.
_ROUTED_EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


def add_adapters(model: KimiVLForConditionalGeneration, config: LoRAConfig) -> PeftModel:
    """Put adapters into `model`, in place, and freeze everything else.

    The model stays usable under its own class; the object returned saves and merges.
    """
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=_MATRICES,
        target_parameters=_ROUTED_EXPERTS if config.routed_experts else None,
    )
    adapted = get_peft_model(model, settings)
    assert isinstance(adapted, PeftModel)
    return adapted


def save_adapter(adapted: PeftModel, source: Path, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors, which peft reads; atomically."""
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    settings = adapted.peft_config["default"]
    settings.base_model_name_or_path = str(source)
    settings.save_pretrained(str(partial))
    tensors = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, partial / "adapter_model.safetensors", metadata={"format": "pt"})
    replace_folder(partial, folder)


def merge_adapters(adapted: PeftModel) -> KimiVLForConditionalGeneration:
    """The plain model again, with W + (alpha / rank)·B·A in place of each adapted W."""
    merged = adapted.merge_and_unload()  # pyright: ignore[reportCallIssue]
    assert isinstance(merged, KimiVLForConditionalGeneration)
    return merged
