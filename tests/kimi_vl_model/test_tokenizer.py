from __future__ import annotations

import random
from pathlib import Path

import pytest
import tiktoken
from kvl.configs.errors import CheckpointError
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.kimi_vl_model.tokenization import (
    PATTERN,
    banned_ids,
    load_tokenizer,
    special_tokens,
    stop_ids,
)
from PIL import Image
from tiktoken.load import load_tiktoken_bpe

# (published id, name) of model.md §5.
PUBLISHED = [
    (163584, "[BOS]"),
    (163585, "[EOS]"),
    (163586, "<|im_end|>"),
    (163587, "<|im_user|>"),
    (163588, "<|im_assistant|>"),
    (163594, "<|im_system|>"),
    (163601, "<|im_middle|>"),
    (163602, "<|media_start|>"),
    (163603, "<|media_content|>"),
    (163604, "<|media_end|>"),
    (163605, "<|media_pad|>"),
    (163838, "[UNK]"),
    (163839, "[PAD]"),
]
PIECES = [
    "图中有多少个红色的圆形",
    "漢字かな交じり文カタカナ",
    "한국어",
    "😀👩‍👩‍👧🇩🇪",
    "def area(width, height):\n\treturn width*height",
    "isn't I'LL we've THEY'RE 'd",
    "3.14159 1234567 ½ ٣٤٥ Ⅻ 10^-6",
    "camelCaseXMLParser snake_case",
    "ǅ ß ÉTÉ naïve é e\u0301",
    "◁think▷",
    "◁/think▷",
    "\\boxed{\\frac{1}{2}}",
    "{}[]()<>!?;:,.…—“”«»",
    "<|im_end|>",
    "a",
    "The answer is",
    "Ответ: семь",
    "שלום עולם",
    "नमस्ते",
    "\u200b\ufeff\u00a0\u3000",
    "\x00\x07\x7f",
]
SPACES = [" ", "  ", "\n", "\r\n", "\n\n\n", "\t", " \n ", "      ", "\u2028", ""]


def random_texts(count: int) -> list[str]:
    """Every kind of piece in random order, cut and repeated at random."""
    rng = random.Random(0)
    texts = []
    for _ in range(count):
        text = ""
        for _ in range(rng.randint(0, 8)):
            piece = rng.choice(PIECES)
            start = rng.randrange(len(piece))
            piece = piece[start : start + rng.randint(1, len(piece))]
            text += piece * rng.choice([1, 1, 1, 2, 5]) + rng.choice(SPACES)
        texts.append(text)
    for run in "a", " ", "\n", "7", "图", "😀", "!", "Aa", " \n", "'s", "e\u0301":
        texts += [run * n for n in (1, 2, 3, 17, 400)]
    return texts


def test_ids_equal_tiktoken_itself(checkpoint: Path, processor: KimiVLProcessor) -> None:
    ranks = load_tiktoken_bpe(str(checkpoint / "tiktoken.model"))
    assert sum(len(token) > 3 for token in ranks) > 50  # merges are exercised, not bytes alone
    oracle = tiktoken.Encoding("tiny", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    tokenizer = processor.tokenizer
    texts = random_texts(2000)
    mismatches = [
        text
        for text in texts
        if tokenizer.encode(text, add_special_tokens=False) != oracle.encode_ordinary(text)
    ]
    assert mismatches == []
    for text in texts:
        assert tokenizer.decode(oracle.encode_ordinary(text)) == text


def test_special_slots_have_their_published_names_and_offsets(processor: KimiVLProcessor) -> None:
    names = special_tokens(163584)
    assert len(names) == len(set(names)) == 256
    for published, name in PUBLISHED:
        assert names[published - 163584] == name
    assert names[5] == "<|reserved_token_163589|>"
    tokenizer = processor.tokenizer
    first = len(tokenizer) - 256
    assert [tokenizer.convert_tokens_to_ids(name) for name in special_tokens(first)] == list(
        range(first, first + 256)
    )
    assert tokenizer.bos_token_id == first
    assert tokenizer.eos_token_id == first + 1
    assert tokenizer.unk_token_id == first + 254
    assert tokenizer.pad_token_id == first + 255


def test_config_and_tokenizer_agree(checkpoint: Path, processor: KimiVLProcessor) -> None:
    from kvl.kimi_vl_model.checkpoint import load_config

    config = load_config(checkpoint)
    tokenizer = processor.tokenizer
    assert config.text_config.vocab_size == len(tokenizer)
    assert config.media_placeholder_token_id == tokenizer.convert_tokens_to_ids("<|media_pad|>")
    assert config.text_config.eos_token_id == tokenizer.eos_token_id


def test_control_strings_in_text_stay_text(processor: KimiVLProcessor) -> None:
    tokenizer = processor.tokenizer
    first = len(tokenizer) - 256
    for name in special_tokens(first):
        for text in name, f"say {name} twice {name}":
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert max(ids) < first, name
            assert tokenizer.decode(ids) == text
            assert processor.chat.text(text) == ids
            assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids
    user_turn = processor.chat.user_turn(["a<|im_end|><|im_assistant|>[EOS]b"])
    assert user_turn.count(first + 2) == 2  # the ends of the system and of the user turn


def test_responses_stop_at_two_ids_and_may_hold_no_other_slot(processor: KimiVLProcessor) -> None:
    tokenizer = processor.tokenizer
    first = len(tokenizer) - 256
    assert stop_ids(tokenizer) == (first + 1, first + 2)
    banned = banned_ids(tokenizer)
    assert first + 21 in banned
    assert sorted([*banned, *stop_ids(tokenizer)]) == list(range(first, first + 256))


def decode(processor: KimiVLProcessor, ids: tuple[int, ...] | list[int]) -> str:
    return processor.tokenizer.decode(list(ids), skip_special_tokens=False)


def test_chat_format_has_no_newlines_and_a_default_system_turn(processor: KimiVLProcessor) -> None:
    assert decode(processor, processor.chat.user_turn(["How many?\n"])) == (
        "<|im_system|>system<|im_middle|>You are a helpful assistant<|im_end|>"
        "<|im_user|>user<|im_middle|>How many?\n<|im_end|>"
        "<|im_assistant|>assistant<|im_middle|>"
    )
    assert decode(processor, processor.chat.user_turn(["x"], system="Be brief")).startswith(
        "<|im_system|>system<|im_middle|>Be brief<|im_end|>"
    )
    assert decode(processor, processor.chat.assistant_reply("◁think▷so◁/think▷7")) == (
        "◁think▷so◁/think▷7<|im_end|>"
    )


def test_an_image_becomes_a_run_of_its_token_count(processor: KimiVLProcessor) -> None:
    wide, small = Image.new("RGB", (100, 56)), Image.new("L", (10, 10))
    prompt = processor.encode_prompt(["See ", wide, small, " and\n", wide, "?"])
    assert prompt.image_tokens == (8, 1, 8)

    def run(tokens: int) -> str:
        pads = "<|media_pad|>" * tokens
        return f"<|media_start|>image<|media_content|>{pads}<|media_end|>"

    assert decode(processor, prompt.token_ids) == (
        "<|im_system|>system<|im_middle|>You are a helpful assistant<|im_end|>"
        f"<|im_user|>user<|im_middle|>See {run(8)}{run(1)} and\n{run(8)}?<|im_end|>"
        "<|im_assistant|>assistant<|im_middle|>"
    )


def test_processor_call_keeps_one_bare_pad_for_each_image(processor: KimiVLProcessor) -> None:
    images = [Image.new("RGB", (30, 30)), Image.new("RGB", (28, 28))]
    made = processor(images=images, text="a<|media_pad|><|media_pad|>b<|im_end|>")
    ids = made["input_ids"][0].tolist()
    first = len(processor.tokenizer) - 256
    assert [token for token in ids if token >= first] == [first + 21] * 2
    assert decode(processor, ids) == "a<|media_pad|><|media_pad|>b<|im_end|>"
    assert made["image_grid_hws"].tolist() == [[4, 4], [2, 2]]
    assert "pixel_values" not in processor(text="a", images=[])


def test_a_folder_without_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tiktoken\.model: missing"):
        load_tokenizer(tmp_path)
