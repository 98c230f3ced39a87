"""A synthetic vocabulary of the published size, against tiktoken itself."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiktoken
from kvl.kimi_vl_model.processing import ChatEncoder
from kvl.kimi_vl_model.tiny import train_ranks
from kvl.kimi_vl_model.tokenization import PATTERN, load_tokenizer, special_tokens
from transformers import PreTrainedTokenizerFast

Measured = Callable[[str, object], None]

RANKS = 163_584
STRINGS = 20_000
SPECIAL = {
    "[BOS]": 163584,
    "[EOS]": 163585,
    "<|im_end|>": 163586,
    "<|im_user|>": 163587,
    "<|im_assistant|>": 163588,
    "<|im_system|>": 163594,
    "<|im_middle|>": 163601,
    "<|media_start|>": 163602,
    "<|media_content|>": 163603,
    "<|media_end|>": 163604,
    "<|media_pad|>": 163605,
    "[UNK]": 163838,
    "[PAD]": 163839,
}
CODE = ["():", ");", "{}", "==", "->", "\n\n", "    ", "::", "...", "</", "!=", "\t", "\r\n", "'s"]


def random_word(rng: random.Random) -> str:
    """Latin of any case, Cyrillic, Han, digits, emoji or code."""
    kind = rng.random()
    if kind < 0.55:
        syllables = (
            rng.choice("bcdfghjklmnpqrstvwxz") + rng.choice("aeiouyé") + rng.choice(["", "n", "s"])
            for _ in range(rng.randint(1, 4))
        )
        word = "".join(syllables)
        return rng.choice([word, word, word, word.capitalize(), word.upper()])
    if kind < 0.7:
        return "".join(chr(rng.randint(0x430, 0x44F)) for _ in range(rng.randint(2, 6)))
    if kind < 0.85:
        return "".join(chr(rng.randint(0x4E00, 0x9FFF)) for _ in range(rng.randint(1, 3)))
    if kind < 0.92:
        return str(rng.randint(0, 99_999))
    if kind < 0.96:
        return "".join(chr(rng.randint(0x1F300, 0x1F6FF)) for _ in range(rng.randint(1, 2)))
    return rng.choice(CODE)


def texts(count: int, words: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(count):
        length = rng.randint(1, words)
        yield "".join(random_word(rng) + rng.choice([" ", " ", ""]) for _ in range(length))


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, int]]:
    """(a folder with tiktoken.model, its ranks): byte pairs learned from random words."""
    learned = [text for text in texts(4400, 300, seed=0) for _ in range(2)]
    ranks = {token: rank for rank, token in enumerate(train_ranks(learned, RANKS))}
    assert len(ranks) == RANKS
    folder = tmp_path_factory.mktemp("vocabulary")
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    (folder / "tiktoken.model").write_text("".join(lines))
    return folder, ranks


@pytest.fixture(scope="module")
def tokenizer(vocabulary: tuple[Path, dict[bytes, int]]) -> PreTrainedTokenizerFast:
    return load_tokenizer(vocabulary[0])


def test_ids_equal_tiktoken_on_twenty_thousand_strings(
    vocabulary: tuple[Path, dict[bytes, int]],
    tokenizer: PreTrainedTokenizerFast,
    measured: Measured,
) -> None:
    oracle = tiktoken.Encoding(
        "published size", pat_str=PATTERN, mergeable_ranks=vocabulary[1], special_tokens={}
    )
    strings = [*texts(STRINGS, 12, seed=1)]
    strings += [character * run for character in "a 7图😀!\n" for run in (2, 17, 500, 3000)]
    expected = oracle.encode_ordinary_batch(strings)
    used = {token for ids in expected for token in ids}
    assert len(used) > 30_000
    mismatches = [
        text
        for text, ids in zip(strings, expected, strict=True)
        if tokenizer.encode(text, add_special_tokens=False) != ids
    ]
    measured("strings", len(strings))
    measured("mismatches", len(mismatches))
    assert mismatches == []


def test_special_ids_are_the_published_ones(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == 163_840
    for token, published in SPECIAL.items():
        assert tokenizer.convert_tokens_to_ids(token) == published
    names = special_tokens(RANKS)
    assert tokenizer.convert_tokens_to_ids(names) == list(range(RANKS, RANKS + 256))


def test_control_tokens_in_user_text_stay_text(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "".join(f"say {name} " for name in special_tokens(RANKS))
    ids = ChatEncoder(tokenizer).text(text)
    assert max(ids) < RANKS
    assert tokenizer.decode(ids) == text
