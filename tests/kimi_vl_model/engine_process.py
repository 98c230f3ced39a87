"""vLLM in a process of its own: `python engine_process.py JOBS OUT`, both pickles.

A job: {"checkpoint", "dtype", "prompts": [(token ids with one pad per image, [PNG bytes])]}.
Its result: "sequences", per prompt (expanded prompt ids, sampled ids, log-probs of both after the
first id), and what it took.
"""

from __future__ import annotations

import io
import os
import pickle
import resource
import sys
import time
from pathlib import Path
from typing import Any

from kvl.configs.rollout import EngineConfig
from kvl.rollouts.engine_process import set_environment

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
set_environment(EngineConfig(threads=2), on_gpu=False)

from PIL import Image  # noqa: E402
from vllm import LLM, SamplingParams  # noqa: E402

SAMPLED = 24


def run(job: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    llm = LLM(
        str(job["checkpoint"]),
        dtype=job["dtype"],
        max_model_len=512,
        max_num_batched_tokens=2048,
        max_num_seqs=16,
        limit_mm_per_prompt={"image": 8},
        skip_mm_profiling=True,
        generation_config="vllm",
        enforce_eager=True,
        block_size=32,
        enable_chunked_prefill=False,
        enable_prefix_caching=False,
        kv_cache_memory_bytes=2**29,
        # vLLM's CPU kernel rotates interleaved heads wrongly; its torch path is right.
        compilation_config={"custom_ops": ["-rotary_embedding"]},
    )
    loaded = time.perf_counter()
    prompts = [
        {"prompt_token_ids": ids}
        | (
            {"multi_modal_data": {"image": [Image.open(io.BytesIO(png)) for png in images]}}
            if images
            else {}
        )
        for ids, images in job["prompts"]
    ]
    sampling = SamplingParams(
        temperature=1.0, seed=0, max_tokens=SAMPLED, ignore_eos=True, logprobs=0, prompt_logprobs=0
    )
    outputs = llm.generate(prompts, sampling, use_tqdm=False)  # pyright: ignore[reportArgumentType]
    sequences = []
    for output in outputs:
        prompt, completion = list(output.prompt_token_ids or ()), output.outputs[0]
        sampled = list(completion.token_ids)
        of_prompt = list(output.prompt_logprobs or ())[1:]
        entries = [*of_prompt, *(completion.logprobs or ())]
        chosen = [*prompt[1:], *sampled]
        logprobs = [entry[token].logprob for entry, token in zip(entries, chosen, strict=True)]
        sequences.append((prompt, sampled, logprobs))
    return {
        "sequences": sequences,
        "load_seconds": loaded - started,
        "generate_seconds": time.perf_counter() - loaded,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


if __name__ == "__main__":
    jobs = pickle.loads(Path(sys.argv[1]).read_bytes())
    Path(sys.argv[2]).write_bytes(pickle.dumps([run(job) for job in jobs]))
