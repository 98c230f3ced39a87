"""What config.json, preprocessor_config.json and generation_config.json may say.

transformers takes most of their values as they come, and what is wrong shows up later: in the
middle of building a model, or in its numbers. Sizes have upper bounds, far above any published
model, because even a model without memory takes time to build.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ...configs.errors import CheckpointError
from .json_files import shown

PAD_INPUT = (
    "pad_input is false, which is not supported: the published crop leaves rows of patches that "
    "the vision tower cannot merge, and vLLM counts an image's tokens as if it were padded; "
    "set it to true"
)

_ARCHITECTURE = "KimiVLForConditionalGeneration"
_Width = Annotated[int, Field(ge=1, le=2**20)]
_Layers = Annotated[int, Field(ge=1, le=256)]
_Heads = Annotated[int, Field(ge=1, le=4096)]
_Epsilon = Annotated[float, Field(ge=1e-12, lt=1)]
_Theta = Annotated[float, Field(ge=1, le=1e12)]
_Pair = Annotated[list[Annotated[int, Field(ge=1, le=16)]], Field(min_length=2, max_length=2)]
_TokenId = Annotated[int, Field(ge=0)]
_TokenIds = Annotated[
    list[_TokenId], BeforeValidator(lambda value: value if isinstance(value, list) else [value])
]
_DType = Literal["float64", "float32", "float16", "bfloat16"]


class _Settings(BaseModel):
    """A JSON object: numbers are numbers, true is no number, other keys are others' business."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class _RopeParameters(_Settings):
    rope_theta: _Theta
    rope_type: Literal["default"]


class _TokenIdSettings(_Settings):
    bos_token_id: _TokenId | None = None
    eos_token_id: _TokenIds | None = None
    pad_token_id: _TokenId | None = None

    def ids(self) -> Iterator[tuple[str, int]]:
        """(field, id) of every id that is given."""
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(self, name)
            for one in value if isinstance(value, list) else [value]:
                if one is not None:
                    yield name, one


class _Text(_TokenIdSettings):
    """The decoder. What transformers would fill in with the values of another model is required."""

    vocab_size: int = Field(ge=1, le=2**24)
    hidden_size: _Width
    intermediate_size: _Width
    moe_intermediate_size: _Width
    num_hidden_layers: _Layers
    num_attention_heads: _Heads
    num_key_value_heads: _Heads | None = None
    n_shared_experts: int = Field(ge=1, le=256)
    # A route of `routing.py` holds an expert's number in a byte.
    n_routed_experts: int = Field(ge=2, le=255)
    num_experts_per_tok: int = Field(ge=1)
    first_k_dense_replace: int = Field(ge=0)
    n_group: int = Field(ge=1, le=255)
    topk_group: int = Field(ge=1, le=255)
    norm_topk_prob: bool
    routed_scaling_factor: float = Field(gt=0, le=1e3)
    kv_lora_rank: _Width
    q_lora_rank: _Width | None
    qk_nope_head_dim: _Width
    qk_rope_head_dim: _Width = Field(multiple_of=2)
    v_head_dim: _Width
    rms_norm_eps: _Epsilon
    rope_theta: _Theta | None = None
    rope_parameters: _RopeParameters | None = None
    max_position_embeddings: int = Field(ge=1, le=2**31)
    hidden_act: Literal["silu"] = "silu"
    attention_bias: bool = False
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    initializer_range: float = Field(default=0.02, ge=0, le=1e3)
    aux_loss_alpha: float = Field(default=0.0, ge=0)
    seq_aux: bool = True
    use_cache: bool = True
    rope_interleave: Literal[True] | None = None
    pretraining_tp: int | None = None
    num_nextn_predict_layers: int = Field(default=0, ge=0, le=8)
    num_mtp_layers: int = Field(default=0, ge=0, le=8)
    torch_dtype: _DType | None = None
    dtype: _DType | None = None

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        experts, groups = self.n_routed_experts, self.n_group
        if self.num_key_value_heads not in (None, self.num_attention_heads):
            raise ValueError("num_key_value_heads must be equal to num_attention_heads")
        if self.first_k_dense_replace > self.num_hidden_layers:
            raise ValueError("first_k_dense_replace must not exceed num_hidden_layers")
        if experts % groups or experts // groups < 2 or self.topk_group > groups:
            raise ValueError(
                f"{experts} n_routed_experts do not split into {groups} n_group of two and more, "
                f"of which {self.topk_group} topk_group are chosen"
            )
        if self.num_experts_per_tok > self.topk_group * (experts // groups):
            raise ValueError("num_experts_per_tok exceeds the experts that can be chosen from")
        if (self.rope_theta is None) == (self.rope_parameters is None):
            raise ValueError("needs one of rope_theta and rope_parameters")
        return self


class _Vision(_Settings):
    """Absent values are those of the published tower, which are the defaults of its config."""

    model_type: Literal["moonvit"] = "moonvit"
    patch_size: int = Field(default=14, ge=1, le=256)
    init_pos_emb_height: int = Field(default=64, ge=1, le=1024)
    init_pos_emb_width: int = Field(default=64, ge=1, le=1024)
    num_attention_heads: _Heads = 16
    num_hidden_layers: _Layers = 27
    hidden_size: _Width = 1152
    intermediate_size: _Width = 4304
    merge_kernel_size: _Pair = [2, 2]
    torch_dtype: _DType | None = None
    dtype: _DType | None = None

    @model_validator(mode="after")
    def _heads_rotate_pairs(self) -> Self:
        if self.hidden_size % (4 * self.num_attention_heads):
            raise ValueError("hidden_size must be a multiple of 4 · num_attention_heads")
        return self


class _Model(_TokenIdSettings):
    text_config: _Text
    vision_config: _Vision
    architectures: list[str] = Field(description="by which vLLM chooses the model's code")
    media_placeholder_token_id: _TokenId = 163605
    ignore_index: int = Field(default=-100, lt=0)
    kv_a_layernorm_eps: _Epsilon = 1e-6
    vocab_size: int | None = None
    tie_word_embeddings: Literal[False] | None = None
    torch_dtype: _DType | None = None
    dtype: _DType | None = None

    @field_validator("architectures")
    @classmethod
    def _is_kimi_vl(cls, value: list[str]) -> list[str]:
        if _ARCHITECTURE not in value:
            raise ValueError(f"{shown(value)} does not hold {_ARCHITECTURE}")
        return value

    @model_validator(mode="after")
    def _ids_are_below_the_vocabulary(self) -> Self:
        vocabulary = self.text_config.vocab_size
        if self.vocab_size not in (None, vocabulary):
            raise ValueError(
                f"vocab_size is {shown(self.vocab_size)}, text_config.vocab_size {vocabulary}"
            )
        ids = [("media_placeholder_token_id", self.media_placeholder_token_id), *self.ids()]
        ids += [(f"text_config.{name}", one) for name, one in self.text_config.ids()]
        for name, one in ids:
            if one >= vocabulary:
                raise ValueError(f"{name} {shown(one)} is no id below vocab_size {vocabulary}")
        return self


class _Preprocessor(_Settings):
    patch_size: int = Field(default=14, ge=1, le=256)
    in_token_limit: int = Field(default=4096, ge=1, le=2**20)
    merge_kernel_size: _Pair = [2, 2]
    image_mean: list[Annotated[float, Field(ge=-1e3, le=1e3)]] = Field(
        default=[0.5, 0.5, 0.5], min_length=3, max_length=3
    )
    image_std: list[Annotated[float, Field(ge=1e-3, le=1e3)]] = Field(
        default=[0.5, 0.5, 0.5], min_length=3, max_length=3
    )
    pad_input: bool = True

    @model_validator(mode="after")
    def _pads(self) -> Self:
        if not self.pad_input:
            raise ValueError(PAD_INPUT)
        return self


class _Generation(_TokenIdSettings):
    do_sample: bool | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    max_length: Annotated[int, Field(ge=1)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None


Checked = TypeVar("Checked", bound=_Settings)


def check_model(settings: dict[str, Any], path: Path) -> None:
    """Raises CheckpointError for a config.json whose model cannot be built as it says."""
    for prefix, section in (("", settings), ("text_config.", settings.get("text_config"))):
        quantized = section.get("quantization_config") if isinstance(section, dict) else None
        if quantized is not None:
            raise CheckpointError(
                f"{path}: {prefix}quantization_config is {shown(quantized)}: a quantized "
                "checkpoint is not supported, dequantize it and remove the setting"
            )
    _checked(_Model, settings, path)


def check_preprocessor(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings that count, absent ones filled in. Raises CheckpointError."""
    return _checked(_Preprocessor, settings, path).model_dump()


def check_generation(settings: dict[str, Any], path: Path, vocabulary: int) -> None:
    """Raises CheckpointError, also for an id outside a vocabulary of that size."""
    for name, one in _checked(_Generation, settings, path).ids():
        if one >= vocabulary:
            raise CheckpointError(
                f"{path}: {name} {shown(one)} is no id below vocab_size {vocabulary}"
            )


def _checked(model: type[Checked], settings: dict[str, Any], path: Path) -> Checked:
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        wrong = []
        for details in error.errors():
            field = ".".join(str(part) for part in details["loc"])
            if details["type"] == "missing":
                wrong.append(f"{field} is missing")
            elif details["type"] == "value_error":
                message = details["msg"].removeprefix("Value error, ")
                wrong.append(f"{field}: {message}" if field else message)
            else:
                message = details["msg"].removeprefix("Input ").removeprefix("List ")
                message = message.replace(" after validation", "")
                wrong.append(f"{field} {message}, not {shown(details['input'])}")
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{path}: {'; '.join(wrong[:3])}{more}") from None
