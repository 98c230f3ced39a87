"""The tiktoken vocabulary with its 256 named slots, as a fast transformers tokenizer.

The published slow tokenizer does not import on transformers 5 and the automatic conversion uses
another pre-tokenizer pattern, so both are built here from `tiktoken.model` alone.
"""

from __future__ import annotations

from pathlib import Path

from tiktoken.load import load_tiktoken_bpe
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from ..configs.errors import CheckpointError

PATTERN = "|".join(
    [
        r"[\p{Han}]+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)

RESERVED_SLOTS = 256
BOS, EOS, UNK, PAD = "[BOS]", "[EOS]", "[UNK]", "[PAD]"
IM_END, IM_USER, IM_ASSISTANT = "<|im_end|>", "<|im_user|>", "<|im_assistant|>"
IM_SYSTEM, IM_MIDDLE = "<|im_system|>", "<|im_middle|>"
MEDIA_START, MEDIA_CONTENT = "<|media_start|>", "<|media_content|>"
MEDIA_END, MEDIA_PAD = "<|media_end|>", "<|media_pad|>"

# Offset of each named slot from the first one (163,584 in the published vocabulary).
NAMED_SLOTS = {
    0: BOS,
    1: EOS,
    2: IM_END,
    3: IM_USER,
    4: IM_ASSISTANT,
    10: IM_SYSTEM,
    17: IM_MIDDLE,
    18: MEDIA_START,
    19: MEDIA_CONTENT,
    20: MEDIA_END,
    21: MEDIA_PAD,
    254: UNK,
    255: PAD,
}
# Only two slots may end a response; sampling any other one would forge structure or images.
STOP_TOKENS = (EOS, IM_END)


def special_tokens(base_ranks: int) -> list[str]:
    """The 256 slot names in id order; unnamed ones are `<|reserved_token_{id}|>`."""
    return [
        NAMED_SLOTS.get(offset, f"<|reserved_token_{base_ranks + offset}|>")
        for offset in range(RESERVED_SLOTS)
    ]


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of a named slot. Raises KeyError if the vocabulary has no such token."""
    found = tokenizer.get_added_vocab()[token]
    return int(found)


def stop_ids(tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """The ids that end a response: [EOS] and `<|im_end|>`."""
    return tuple(token_id(tokenizer, token) for token in STOP_TOKENS)


def banned_ids(tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """The ids a response may never hold: every special slot that is not a stop id.

    `<|media_pad|>` among them: it is not flagged special upstream, can be sampled, and would
    ask for an image that is not there.
    """
    first = token_id(tokenizer, BOS)
    return tuple(sorted(set(range(first, first + RESERVED_SLOTS)).difference(stop_ids(tokenizer))))


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """Build the tokenizer from `folder/tiktoken.model`. Raises CheckpointError if it is bad."""
    vocabulary = Path(folder) / "tiktoken.model"
    if not vocabulary.is_file():
        raise CheckpointError(f"{vocabulary}: missing; a checkpoint folder needs its tokenizer")
    try:
        ranks = len(load_tiktoken_bpe(str(vocabulary)))
    except ValueError as error:
        raise CheckpointError(f"{vocabulary}: damaged ({error})") from error
    names = special_tokens(ranks)
    backend = TikTokenConverter(
        vocab_file=str(vocabulary), pattern=PATTERN, extra_special_tokens=names
    ).converted()
    # Control tokens are only ever inserted by id (processing.py); as text they stay text.
    backend.encode_special_tokens = True
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        pad_token=PAD,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
