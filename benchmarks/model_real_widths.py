"""A checkpoint of the published widths on this machine: load, train, export, serve.

`python benchmarks/model_real_widths.py` writes benchmarks/results/model_real_widths.json. Two
layers of decoder and vision tower instead of 27, and a small vocabulary; everything else is as
published: hidden 2048, 16 heads, 64 experts of width 1408. Every stage runs in a process of its
own, and its peak is what it added to the memory of the imported libraries.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kvl.kimi_vl_model.checkpoint import (
    empty_model,
    export_checkpoint,
    load_config,
    load_model,
    persistent_state,
)
from kvl.kimi_vl_model.files.stored_tensors import iterate_tensors
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.kimi_vl_model.tiny import TINY_TEXT, TINY_VISION, write_tiny_checkpoint
from kvl.problems.synthetic.texts import written_texts
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "model_real_widths.json"
SHARD_BYTES = 300 * 10**6
TOKENS = 512
TEXT = {
    **TINY_TEXT,
    "hidden_size": 2048,
    "intermediate_size": 11264,
    "moe_intermediate_size": 1408,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "n_routed_experts": 64,
    "num_experts_per_tok": 6,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
}
VISION = {
    **TINY_VISION,
    "num_hidden_layers": 2,
    "hidden_size": 1152,
    "num_attention_heads": 16,
    "intermediate_size": 4304,
    "init_pos_emb_height": 64,
    "init_pos_emb_width": 64,
}


def memory(field: str) -> float:
    """VmRSS or VmHWM of this process in GB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e9
    raise KeyError(field)


def measured(work: Callable[[], Any]) -> dict[str, float]:
    """Seconds, and peak memory above what was held before."""
    Path("/proc/self/clear_refs").write_text("5")  # starts VmHWM anew
    before, started = memory("VmRSS"), time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 2), "peak_gb": round(memory("VmHWM") - before, 2)}


def write(folder: Path) -> dict[str, Any]:
    def work() -> None:
        single = folder / "single"
        write_tiny_checkpoint(
            single, written_texts(), text_config=TEXT, vision_config=VISION, dtype=torch.bfloat16
        )
        model = load_model(single, torch.bfloat16)
        export_checkpoint(persistent_state(model), single, folder / "source", SHARD_BYTES)
        shutil.rmtree(single)

    result = measured(work)
    model = empty_model(load_config(folder / "source"))
    result["parameters"] = sum(tensor.numel() for _, tensor in persistent_state(model))
    shards = [file.stat().st_size / 1e9 for file in (folder / "source").glob("*.safetensors")]
    return {**result, "shards": len(shards), "largest_shard_gb": round(max(shards), 2)}


def load(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    held = []
    result = measured(lambda: held.append(load_model(folder / "source", dtype)))
    return {**result, "model_gb": round(size_gb(held[0]), 2)}


def size_gb(model: torch.nn.Module) -> float:
    return sum(tensor.nbytes for _, tensor in persistent_state(model)) / 1e9


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def train(folder: Path, checkpointing: bool) -> dict[str, Any]:
    torch.set_num_threads(2)
    model = load_model(folder / "source").train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    processor = KimiVLProcessor.from_pretrained(folder / "source")
    image = picture(560, 420)
    prompt = processor.encode_prompt([image, "How many?"])
    ids = torch.tensor([[*prompt.token_ids, *range(TOKENS - len(prompt.token_ids))]])
    losses = []

    def work() -> None:
        patches = processor.image_processor.preprocess(image)
        loss = model(ids, **patches, labels=ids).loss
        loss.backward()
        losses.append(float(loss))

    result = measured(work)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return {
        **result,
        "tokens": ids.shape[1],
        "image_tokens": prompt.image_tokens[0],
        "gradients_gb": round(sum(gradient.nbytes for gradient in gradients) / 1e9, 2),
        "parameters_with_gradient": f"{len(gradients)} of {len(list(model.parameters()))}",
        "loss": round(losses[0], 4),
    }


def export(folder: Path) -> dict[str, Any]:
    model, source, out = load_model(folder / "source"), folder / "source", folder / "out"
    result = measured(lambda: export_checkpoint(persistent_state(model), source, out, SHARD_BYTES))
    pairs = zip(iterate_tensors(source), iterate_tensors(out), strict=True)
    equal = all(a[0] == b[0] and a[1].equal(b[1]) for a, b in pairs)
    return {**result, "bit_equal": equal}


def serve(folder: Path, dtype: str) -> dict[str, Any]:
    """vLLM reads the export; its log-probs are compared with the learner's."""
    processor = KimiVLProcessor.from_pretrained(folder / "out")
    image = picture(112, 84)
    image.save(folder / "image.png")
    ids = processor.chat.user_turn(["How many circles? ", 1])
    job = {"checkpoint": folder / "out", "dtype": dtype}
    prompts = [(ids, [(folder / "image.png").read_bytes()])]
    (folder / "jobs").write_bytes(pickle.dumps([{**job, "prompts": prompts}]))
    script = ROOT / "tests" / "kimi_vl_model" / "engine_process.py"
    command = [sys.executable, str(script), str(folder / "jobs"), str(folder / "results")]
    subprocess.run(command, check=True)
    (result,) = pickle.loads((folder / "results").read_bytes())
    prompt, sampled, logprobs = result.pop("sequences")[0]
    model = load_model(folder / "out", getattr(torch, dtype))
    whole = torch.tensor([prompt + sampled])
    with torch.no_grad():
        patches = processor.image_processor.preprocess(image)
        logits = model(whole, **patches).logits[0, :-1].float()
    own = logits.log_softmax(-1).gather(1, whole[0, 1:, None])[:, 0]
    difference = (own - torch.tensor(logprobs)).abs()
    rounded = {name: round(value, 2) for name, value in result.items()}
    return {
        **rounded,
        "prompt_tokens": len(prompt),
        "sampled_tokens": len(sampled),
        "mean_logprob_difference": float(difference.mean()),
        "largest_logprob_difference": float(difference.max()),
    }


def main() -> None:
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stage, function, arguments in (
            ("write", write, ()),
            ("load bf16", load, (torch.bfloat16,)),
            ("load fp32", load, (torch.float32,)),
            ("forward and backward", train, (False,)),
            ("forward and backward, recomputed", train, (True,)),
            ("export", export, ()),
            ("serve fp32", serve, ("float32",)),
            ("serve bf16", serve, ("bfloat16",)),
        ):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                results[stage] = pool.apply(function, (folder, *arguments))
            print(stage, results[stage], flush=True)
    for stage in ("load bf16", "load fp32"):
        bound = results[stage]["model_gb"] + results["write"]["largest_shard_gb"]
        results[stage]["model_and_one_shard_gb"] = round(bound, 2)
        assert results[stage]["peak_gb"] <= bound, stage
    result = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {"torch": torch.__version__},
        "command": "python benchmarks/model_real_widths.py",
        "stages": results,
    }
    OUT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
