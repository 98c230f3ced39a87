"""The whole model against vLLM's: prompt and decode log-probs, in one engine process."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kvl.kimi_vl_model.checkpoint import load_model
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.kimi_vl_model.tokenization import IM_END, IM_USER, MEDIA_PAD
from PIL import Image
from safetensors.torch import load_file, save_file

Measured = Callable[[str, object], None]

TOLERANCE = 1e-3
CASES = ["text only", "one image", "images of three resolutions", "three turns"]
Result = dict[str, Any]


def png(seed: int, width: int, height: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def prompts(processor: KimiVLProcessor) -> list[tuple[list[int], list[bytes]]]:
    """One prompt per case; an image is one pad, which vLLM expands by its own rules."""
    chat = processor.chat

    def turn(text: str, images: int = 0) -> list[int]:
        """A further user turn, up to where the assistant starts."""
        whole = chat.user_turn([text, *[1] * images])
        return whole[whole.index(chat.control(IM_USER)) :]

    first = chat.user_turn(["How many circles are red? ", 1])
    second = [*first, *chat.assistant_reply("I see 7."), *turn("And here, blue ones?", 2)]
    third = [*second, *chat.assistant_reply("3 and 12."), *turn("Which picture has more?")]
    assert third.count(chat.control(IM_END)) == 6
    return [
        (chat.user_turn(["The quick brown fox is 12,345 years old; count 图中有多少."]), []),
        (chat.user_turn(["What is ", 1, "?"]), [png(1, 84, 56)]),
        (
            chat.user_turn([1, " then ", 1, " and ", 1]),
            [png(2, 56, 56), png(3, 30, 140), png(4, 230, 70)],
        ),
        (third, [png(5, 100, 56), png(6, 28, 28), png(7, 60, 90)]),
    ]


@pytest.fixture(scope="module")
def small_latents(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[float, Path]:
    """Checkpoints whose key-value latents are so small that the epsilon of their norm shows."""
    folder = tmp_path_factory.mktemp("latents")
    made = {}
    for eps in (1e-6, 1e-5):
        made[eps] = Path(shutil.copytree(checkpoint, folder / f"{eps:g}"))
        tensors = load_file(made[eps] / "model.safetensors")
        for name in tensors:
            if name.endswith("kv_a_proj_with_mqa.weight"):
                tensors[name] *= 0.01
        save_file(tensors, made[eps] / "model.safetensors", metadata={"format": "pt"})
    # The published config does not hold the key: 1e-6 is what its absence means.
    config = json.loads((made[1e-5] / "config.json").read_text())
    (made[1e-5] / "config.json").write_text(json.dumps({**config, "kv_a_layernorm_eps": 1e-5}))
    return made


@pytest.fixture(scope="module")
def engine(
    checkpoint: Path,
    processor: KimiVLProcessor,
    small_latents: dict[float, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Result]:
    """What vLLM made of every checkpoint."""
    cases = prompts(processor)
    jobs = {
        "float32": {"checkpoint": checkpoint, "dtype": "float32", "prompts": cases},
        "bfloat16": {"checkpoint": checkpoint, "dtype": "bfloat16", "prompts": cases},
        **{
            f"eps {eps:g}": {"checkpoint": folder, "dtype": "float32", "prompts": cases[:1]}
            for eps, folder in small_latents.items()
        },
    }
    folder = tmp_path_factory.mktemp("engine")
    (folder / "jobs").write_bytes(pickle.dumps(list(jobs.values())))
    script = Path(__file__).with_name("engine_process.py")
    command = [sys.executable, str(script), str(folder / "jobs"), str(folder / "results")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(zip(jobs, pickle.loads((folder / "results").read_bytes()), strict=True))


@torch.no_grad()
def learner_logprobs(
    folder: Path,
    dtype: torch.dtype,
    processor: KimiVLProcessor,
    ids: list[int],
    images: list[bytes],
) -> torch.Tensor:
    decoded = [Image.open(io.BytesIO(image)) for image in images]
    patches = processor.image_processor.preprocess(decoded) if decoded else {}
    logits = load_model(folder, dtype)(torch.tensor([ids]), **patches).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(1, torch.tensor(ids)[1:, None])[:, 0]


def differences(
    engine: Result, folder: Path, processor: KimiVLProcessor, dtype: torch.dtype, case: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """|learner − engine| of the prompt tokens and of the sampled ones."""
    prompt, sampled, logprobs = engine["sequences"][case]
    images = prompts(processor)[case][1]
    own = learner_logprobs(folder, dtype, processor, prompt + sampled, images)
    split = [len(prompt) - 1, len(sampled)]
    of_prompt, of_sampled = (own - torch.tensor(logprobs)).abs().split(split)
    return of_prompt, of_sampled


@pytest.mark.parametrize("case", range(len(CASES)), ids=CASES)
def test_prompt_and_decode_logprobs_equal_vllms_in_fp32(
    engine: dict[str, Result],
    checkpoint: Path,
    processor: KimiVLProcessor,
    case: int,
    measured: Measured,
) -> None:
    prompt, sampled, logprobs = engine["float32"]["sequences"][case]
    pad = processor.tokenizer.convert_tokens_to_ids(MEDIA_PAD)
    assert prompt.count(pad) == [0, 6, 4 + 10 + 27, 8 + 1 + 12][case]
    assert len(sampled) == 24
    assert np.std(logprobs) > 0.5  # far from uniform: a wrong path would show
    of_prompt, of_sampled = differences(
        engine["float32"], checkpoint, processor, torch.float32, case
    )
    measured("largest prompt log-prob difference", of_prompt.max())
    measured("largest decode log-prob difference", of_sampled.max())
    assert of_prompt.max() <= TOLERANCE
    assert of_sampled.max() <= TOLERANCE


def test_logprobs_stay_close_to_vllms_in_bf16(
    engine: dict[str, Result], checkpoint: Path, processor: KimiVLProcessor, measured: Measured
) -> None:
    found = torch.cat(
        [
            torch.cat(differences(engine["bfloat16"], checkpoint, processor, torch.bfloat16, case))
            for case in range(len(CASES))
        ]
    )
    measured("mean log-prob difference", found.mean())
    measured("largest log-prob difference", found.max())
    # Rounding makes near-ties of the router fall the other way for a token here and there.
    assert found.mean() < 0.05
    assert found.quantile(0.9) < 0.1


def test_engine_and_learner_share_the_latent_norms_epsilon(
    engine: dict[str, Result],
    small_latents: dict[float, Path],
    processor: KimiVLProcessor,
    measured: Measured,
) -> None:
    for eps, folder in small_latents.items():
        for other, other_folder in small_latents.items():
            parts = differences(
                engine[f"eps {eps:g}"], other_folder, processor, torch.float32, case=0
            )
            largest = torch.cat(parts).max()
            measured(f"largest difference, engine {eps:g} and learner {other:g}", largest)
            if folder == other_folder:
                assert largest <= TOLERANCE
            else:
                assert largest > 20 * TOLERANCE, (eps, other)
