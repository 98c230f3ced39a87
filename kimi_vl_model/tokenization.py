"""The tiktoken vocabulary with its 256 named slots, as a fast transformers tokenizer.

The published slow tokenizer does not import on transformers 5 and the automatic conversion uses
another pre-tokenizer pattern, so both are built here from `tiktoken.model` alone.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from ..configs.errors import CheckpointError
from .files.json_files import shown

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
_MAX_VOCABULARY_BYTES = 2**25
_MAX_TOKEN_BYTES = 2**10
# Base64 as it is written for whole bytes: no stray characters, padded to a multiple of four.
_VOCABULARY_LINE = re.compile(
    rb"((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==))"
    rb"[ \t]+(\d{1,8})[ \t]*"
)
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


def read_ranks(folder: str | Path) -> int:
    """The number of base ranks in `folder/tiktoken.model`, each of whose lines is checked.

    The library skips what is not base64 and lets a later line replace an earlier one, so a
    damaged file would make another vocabulary. Raises CheckpointError naming the line.
    """
    path = Path(folder) / "tiktoken.model"
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; a checkpoint folder needs its tokenizer")
    try:
        size = path.stat().st_size
        if size > _MAX_VOCABULARY_BYTES:
            raise CheckpointError(f"{path}: damaged ({size} bytes are no vocabulary)")
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    line_of: dict[bytes, int] = {}
    ranks: set[int] = set()
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        match = _VOCABULARY_LINE.fullmatch(line)
        if match is None:
            raise CheckpointError(
                f"{path}:{number}: damaged ({shown(line)} is not a token in base64 and its rank)"
            )
        token, rank = base64.b64decode(match[1]), int(match[2])
        if len(token) > _MAX_TOKEN_BYTES:
            raise CheckpointError(f"{path}:{number}: damaged (a token of {len(token)} bytes)")
        if line_of.setdefault(token, number) != number:
            raise CheckpointError(
                f"{path}:{number}: damaged (the token of line {line_of[token]} again)"
            )
        if rank in ranks:
            raise CheckpointError(f"{path}:{number}: damaged (rank {rank} is given twice)")
        ranks.add(rank)
    absent = next((rank for rank in range(len(ranks)) if rank not in ranks), None)
    if absent is not None:
        raise CheckpointError(f"{path}: damaged (no line has rank {absent})")
    lacking = [byte for byte in range(256) if bytes([byte]) not in line_of]
    if lacking:
        raise CheckpointError(
            f"{path}: damaged ({len(lacking)} of the 256 single bytes are no token)"
        )
    return len(ranks)


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """Build the tokenizer from `folder/tiktoken.model`. Raises CheckpointError if it is bad."""
    vocabulary = Path(folder) / "tiktoken.model"
    ranks = read_ranks(folder)
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
