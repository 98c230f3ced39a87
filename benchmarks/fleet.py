"""A fleet of one engine against raw vLLM that is given the same PIL images, round by round.

`python benchmarks/fleet.py` writes benchmarks/results/fleet.json: tokens per second of 32 responses
of 128 tokens and of 64 of 256, eight to a problem with a picture, on the tiny model. Raw vLLM is
asked for eight samples of a prompt at once. What a setting costs is measured on either side; no
problem is asked twice, so no cache helps. `--idle` says that nothing else ran on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ray
from kvl.configs.rollout import EngineConfig, RolloutConfig
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.problems.prompt import prompt_parts
from kvl.problems.synthetic import FAMILIES, generate
from kvl.problems.synthetic.texts import written_texts
from kvl.problems.types import ImageSource, Problem
from kvl.rollouts.engine_process import set_environment
from kvl.rollouts.fleet import Fleet
from kvl.rollouts.types import RolloutRequest, SamplingSettings

OUT = Path(__file__).resolve().parent / "results" / "fleet.json"
SAMPLES = 8
SIZES = ((32, 128), (64, 256))
ENGINE = EngineConfig(dtype="float32", max_model_len=1024, max_num_seqs=64)
# PIL images through vLLM's own processor, then our patches in three ways.
RAW = ("raw", "raw, log-probs", "raw, log-probs and seeds", "raw, log-probs and banned by bias")
PATCHES = ("patches in one request of 8", "patches with each of 8", "patches once, then hashes")
FLEET = ("fleet", "fleet, seeds", "fleet, deterministic")


class Raw:
    """vLLM as its documentation starts it, with the settings that our engines have."""

    def __init__(self, checkpoint: Path) -> None:
        from kvl.kimi_vl_model.processing import KimiVLProcessor
        from kvl.kimi_vl_model.tokenization import banned_ids
        from kvl.rollouts.engine_config import engine_config
        from vllm.v1.engine.async_llm import AsyncLLM

        self.processor = KimiVLProcessor.from_pretrained(checkpoint)
        self.banned = banned_ids(self.processor.tokenizer)
        settled = engine_config(
            checkpoint, ENGINE, None, (), seed=0, on_gpu=False, one_process=True
        )
        settled.scheduler_config.scheduler_cls = None
        self.engine = AsyncLLM.from_vllm_config(settled, disable_log_stats=True)
        self.numbers = itertools.count()

    async def run(self, name: str, problems: Sequence[Problem], tokens: int) -> float:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        parameters: dict[str, Any] = {
            "max_tokens": tokens,
            "detokenize": False,
            "ignore_eos": True,
            "output_kind": RequestOutputKind.FINAL_ONLY,
        }
        if name != "raw":
            parameters |= {"logprobs": 0, "flat_logprobs": True}
        if "bias" in name:
            parameters["logit_bias"] = dict.fromkeys(self.banned, -100.0)
        if "seeds" in name:
            parameters["seed"] = next(self.numbers)
        ask = self._ask_patches if name in PATCHES else self._ask_images
        one_by_one = name in PATCHES[1:]
        samples = SamplingParams(n=1 if one_by_one else SAMPLES, **parameters)
        # What a user has at hand: decoded pictures.
        opened = [
            [part.open() if isinstance(part, ImageSource) else part for part in prompt_parts(one)]
            for one in problems
        ]
        started = time.perf_counter()
        outputs = await asyncio.gather(
            *(
                ask(problem, parts, samples, name)
                for problem, parts in zip(problems, opened, strict=True)
            )
        )
        seconds = time.perf_counter() - started
        sampled = sum(len(c.token_ids) for one in outputs for output in one for c in output.outputs)
        assert sampled == len(problems) * SAMPLES * tokens, sampled
        return sampled / seconds

    async def _ask_images(self, _problem: Any, parts: Any, samples: Any, _name: str) -> list[Any]:
        shown = [1 if not isinstance(part, str) else part for part in parts]
        prompt = {
            "prompt_token_ids": self.processor.chat.user_turn(shown),
            "multi_modal_data": {"image": [one for one in parts if not isinstance(one, str)]},
        }
        return [await self._output(prompt, samples)]

    async def _ask_patches(
        self, problem: Problem, _parts: Any, samples: Any, name: str
    ) -> list[Any]:
        import torch
        from kvl.rollouts.engine_input import engine_input, prepare

        request = RolloutRequest(problem.id, prompt_parts(problem))
        prompt = await asyncio.to_thread(
            prepare, request, SamplingSettings(), self.processor, 1024, torch.float32
        )
        if name == PATCHES[0]:
            return [await self._output(engine_input(prompt, (), 0), samples)]
        collectors = [
            await self.engine.add_request(
                str(next(self.numbers)),
                engine_input(prompt, (), 0, number == 0 or name == PATCHES[1]),
                samples,
            )
            for number in range(SAMPLES)
        ]
        return [one.get_nowait() or await one.get() for one in collectors]

    async def _output(self, prompt: Any, samples: Any) -> Any:
        collector = await self.engine.add_request(str(next(self.numbers)), prompt, samples)
        return collector.get_nowait() or await collector.get()


def serve_raw(checkpoint: Path, connection: Connection) -> None:
    """In a process of its own: answers (name, problems, tokens) with tokens per second."""
    set_environment(ENGINE, on_gpu=False)

    async def serve() -> None:
        raw = Raw(checkpoint)
        connection.send("ready")
        while (asked := await asyncio.to_thread(connection.recv)) is not None:
            connection.send(await raw.run(*asked))
        raw.engine.shutdown()

    asyncio.run(serve())


def of_fleet(fleet: Fleet, name: str, problems: Sequence[Problem], tokens: int) -> float:
    def settle(self: Any, deterministic: bool) -> None:
        async def ask(prepared: Any, settings: Any, parameters: Any) -> Any:
            # All responses are of one length, as raw vLLM's.
            parameters.ignore_eos = True
            return await type(self)._ask(self, prepared, settings, parameters)

        self._ask, self._stop_ids = ask, []
        self._config = self._config.model_copy(update={"deterministic": deterministic})

    worker: Any = fleet.workers[0]
    ray.get(worker.__ray_call__.remote(settle, "deterministic" in name))
    settings = SamplingSettings(SAMPLES, 1.0, tokens, seed=None if name == "fleet" else 0)
    started = time.perf_counter()
    rollouts, failures = fleet.generate(problems, settings)
    seconds = time.perf_counter() - started
    sampled = sum(len(rollout.response_token_ids) for rollout in rollouts)
    assert failures == []
    assert sampled == len(problems) * SAMPLES * tokens, sampled
    return sampled / seconds


def measured(
    checkpoint: Path, rounds: int, run_raw: Callable[..., float]
) -> dict[str, dict[str, list[float]]]:
    """Tokens per second by size and setting, round by round; the first round only warms up."""
    names = [*RAW, *PATCHES, *FLEET]
    problems_of_all = generate("train", 10**9, list(FAMILIES), (2,), 0)
    found: dict[str, dict[str, list[float]]] = {}
    # Responses of the tiny model repeat nothing; the stop would only cost.
    config = RolloutConfig(workers=1, engine=ENGINE)
    with Fleet(checkpoint, config) as fleet:
        for number in range(rounds + 1):
            for responses, tokens in SIZES:
                speeds = found.setdefault(f"{responses}x{tokens}", {name: [] for name in names})
                # Another order every round: what the machine does meanwhile hits all alike.
                turn = number % len(names)
                for name in names[turn:] + names[:turn]:
                    problems = list(itertools.islice(problems_of_all, responses // SAMPLES))
                    if name in FLEET:
                        speed = of_fleet(fleet, name, problems, tokens)
                    else:
                        speed = run_raw(name, problems, tokens)
                    if number:
                        speeds[name].append(speed)
            print(f"round {number} of {rounds}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_tiny_checkpoint(Path(folder) / "tiny", written_texts())
        here, there = context.Pipe()
        process = context.Process(target=serve_raw, args=(checkpoint, there))
        process.start()

        def run_raw(*asked: Any) -> float:
            here.send(asked)
            return here.recv()

        try:
            assert here.recv() == "ready"
            found = measured(checkpoint, options.rounds, run_raw)
            here.send(None)
            process.join()
        finally:
            process.kill()
    result = {
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "idle_machine": options.idle,
        "rounds": options.rounds,
        "tokens_per_second": {
            size: {
                name: {
                    "median": round(statistics.median(values)),
                    "least": round(min(values)),
                    "most": round(max(values)),
                    "of_raw": round(
                        statistics.median(
                            one / raw for one, raw in zip(values, speeds["raw"], strict=True)
                        ),
                        3,
                    ),
                }
                for name, values in speeds.items()
            }
            for size, speeds in found.items()
        },
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
