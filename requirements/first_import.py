"""Imports what training and rollouts import; called by setup.sh once everything is installed."""

from __future__ import annotations

import importlib
import os

os.environ["HF_HUB_OFFLINE"] = "1"

MODULES = (
    "ray",
    "vllm",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "vllm.model_executor.models.kimi_vl",
    "transformers.models.deepseek_v3.modeling_deepseek_v3",
    "trl.trainer.sft_trainer",
    "torch.utils.tensorboard",
    "math_verify",
    "matplotlib.pyplot",
    "kvl.configs.loading",
)

if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(module)
