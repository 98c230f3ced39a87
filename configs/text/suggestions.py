"""Which key was meant by one that a config does not have."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel

# What other trainers and papers call a setting → where it is here, in either config; the first
# that the config at hand has counts.
COMMON_NAMES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("lr", "learning_rate"): ("learner.optimizer.learning_rate", "optimizer.learning_rate"),
    ("wd", "decay"): ("learner.optimizer.weight_decay", "optimizer.weight_decay"),
    ("grad_clip", "clip_grad", "clip_grad_norm", "gradient_clipping"): (
        "learner.optimizer.max_grad_norm",
        "optimizer.max_grad_norm",
    ),
    ("optim", "optimiser", "optimizer_type"): ("learner.optimizer.name", "optimizer.name"),
    ("epochs", "num_epochs", "num_train_epochs", "total_epochs"): ("iterations", "epochs"),
    ("steps", "num_steps", "total_steps", "max_steps", "iterations", "num_iterations"): (
        "iterations",
        "max_steps",
    ),
    ("batch_size", "bs", "batch", "train_batch_size", "rollout_batch_size", "global_batch_size"): (
        "rollout.problems_per_iteration",
        "batch_size",
    ),
    ("per_device_train_batch_size", "micro_batch_size", "ppo_micro_batch_size"): (
        "learner.pack_tokens",
        "batch_size",
    ),
    ("mini_batch_size", "ppo_mini_batch_size", "num_minibatches", "ppo_epochs"): (
        "learner.minibatches",
    ),
    ("grad_accum", "accumulation", "gradient_accumulation_steps"): ("gradient_accumulation",),
    ("warmup", "warmup_ratio", "warmup_steps"): ("warmup_fraction",),
    ("model", "model_path", "model_name", "model_name_or_path", "base_model", "pretrained"): (
        "checkpoint",
    ),
    ("kl", "kl_coef", "kl_coeff", "kl_beta", "kl_loss_coef", "beta", "init_kl_coef"): (
        "objective.tau",
    ),
    ("algorithm", "algo", "loss", "loss_type", "adv_estimator"): ("objective.name",),
    ("clip", "clip_range", "cliprange", "clip_ratio", "clip_eps", "epsilon", "epsilon_low"): (
        "objective.clip_low",
    ),
    ("clip_ratio_high", "epsilon_high"): ("objective.clip_high",),
    ("data", "dataset", "data_path", "dataset_name", "train_file", "train_files", "prompts"): (
        "problems.path",
    ),
    ("val", "eval", "val_files", "eval_dataset", "test_files", "validation"): (
        "evaluation.problems.path",
    ),
    ("eval_every", "eval_steps", "eval_interval", "test_freq"): ("evaluation.every",),
    ("out", "output", "output_dir", "out_dir", "save_dir", "log_dir", "logdir"): ("run_dir",),
    ("save_steps", "save_freq", "save_interval", "save_every", "checkpoint_every"): (
        "checkpoint_every",
        "save_every",
    ),
    ("logging_steps", "log_steps", "log_interval"): ("log_every",),
    ("save_total_limit", "max_checkpoints"): ("keep_checkpoints",),
    ("logger", "report_to", "wandb", "tracker"): ("trackers",),
    ("n", "k", "samples", "num_samples", "num_generations", "group_size", "n_samples"): (
        "rollout.samples_per_problem",
        "evaluation.samples",
    ),
    ("temperature", "temp", "sampling_temperature"): (
        "rollout.temperature",
        "evaluation.temperature",
    ),
    ("max_new_tokens", "max_tokens", "max_completion_length", "max_response_length"): (
        "rollout.max_response_tokens",
        "max_tokens",
    ),
    ("max_length", "max_seq_length", "max_seq_len", "context_length", "cutoff_len"): (
        "rollout.engine.max_model_len",
        "max_tokens",
    ),
    ("tp", "tp_size", "tensor_parallel"): ("rollout.engine.tensor_parallel_size",),
    ("gpu_memory_utilization", "gpu_memory"): ("rollout.engine.memory_fraction",),
    ("workers", "num_workers", "num_engines"): ("rollout.workers",),
    ("gpus", "num_gpus", "n_gpus", "ngpus", "n_gpus_per_node", "nproc"): ("learner.world_size",),
    ("precision", "bf16", "fp16", "mixed_precision"): (
        "learner.precision.mixed_precision",
        "precision.mixed_precision",
    ),
    ("gradient_checkpointing", "recompute"): (
        "learner.activation_checkpointing",
        "activation_checkpointing",
    ),
    ("lora_rank", "lora_r", "rank"): ("learner.lora.rank", "lora.rank"),
    ("lora_alpha",): ("learner.lora.alpha", "lora.alpha"),
    ("reward_fn", "reward_funcs", "reward_function", "reward_model"): ("rewards",),
    ("random_seed", "manual_seed"): ("seed",),
}
_BY_NAME = {name: keys for names, keys in COMMON_NAMES.items() for name in names}
_SHOWN = 3


def suggestion(field: str, model: type[BaseModel]) -> str:
    """The end of an error about the unknown dotted `field`: what was probably meant, else what
    its section knows.

    A similar name beside it, what others call it, the same name elsewhere, a similar one.
    """
    known = list(dict.fromkeys(name for name, _about in fields(model)))
    # Items of a list share their fields, which are listed without a number.
    parent, leaf = _split(re.sub(r"\.\d+(?=\.)", "", field))
    siblings = [name for name in known if _split(name)[0] == parent]
    for found in (
        _similar(leaf, siblings, 0.8),
        _by_common_name(parent, leaf, known),
        _same_name(parent, leaf, known),
        _similar(leaf, known, 0.85),
        _similar(leaf, siblings, 0.6),
        _similar(leaf, known, 0.6),
    ):
        if found:
            *others, last = found[:_SHOWN]
            return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
    if not siblings:
        siblings = [name for name in known if "." not in name]
        parent = ""
    return f"; {parent or 'the config'} knows {', '.join(_split(name)[1] for name in siblings)}"


def description(field: str, model: type[BaseModel]) -> str | None:
    return dict(fields(model)).get(field)


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """Every dotted field of the tree with its description, sections included."""
    for name, info in model.model_fields.items():
        yield f"{prefix}{name}", info.description
        for section in models_in(info.annotation):
            yield from fields(section, f"{prefix}{name}.")
    for name in getattr(model, "OTHER_KEYS", ()):
        yield f"{prefix}{name}", None


def models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    """The config models an annotation names: `Model`, `Model | None`, `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple):
        parts = typing.get_args(annotation)
        return tuple(model for part in parts for model in models_in(part))
    return ()


def _similar(leaf: str, names: Sequence[str], least: float) -> list[str]:
    by_leaf = {_split(name)[1]: name for name in reversed(names)}
    return [by_leaf[one] for one in difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=least)]


def _by_common_name(parent: str, leaf: str, known: Sequence[str]) -> list[str]:
    """Also of the section: `model.path` is about the model."""
    for name in (leaf, *reversed(parent.split("."))):
        keys = _BY_NAME.get(name.lower().replace("-", "_"), ())
        found = [key for key in keys if key in known and key != parent]
        if found:
            return sorted(found, key=lambda key: _split(key)[0] != parent)[:1]
    return []


def _same_name(parent: str, leaf: str, known: Sequence[str]) -> list[str]:
    """Those that end in more of the dotted field first."""
    found = [name for name in known if _split(name)[1] == leaf]
    longer = [name for name in found if parent and name.endswith(f".{parent}.{leaf}")]
    return longer or found


def _split(field: str) -> tuple[str, str]:
    """A dotted field's section and its own name."""
    parent, _, leaf = field.rpartition(".")
    return parent, leaf
