"""The responses a report shows: which ones, split into thinking and answer, with their images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from ..problems import pictures
from ..problems.prompt import THINK_CLOSE, THINK_OPEN
from ..problems.types import CHOICE_LETTERS, PLACEHOLDER
from ..rewards.types import Outcome
from ..rollouts.types import StopReason
from ..run_files.metrics_file import Record, read_lines
from ..run_files.recorder import transcript_files

CARDS = 12
MAX_TEXT_CHARACTERS = 12_000
MAX_IMAGE_SIDE = 640
_WEB_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp"}
_STOP_REASONS = {
    StopReason.STOP.value: "stopped itself",
    StopReason.LENGTH.value: "cut by the token cap",
    StopReason.REPETITION.value: "cut because it repeated itself",
}
_END_TOKENS = ("<|im_end|>", "[EOS]")


@dataclass(frozen=True, slots=True)
class Response:
    """One response as the page shows it: `thinking` is None if the response has none."""

    title: str
    thinking: str | None
    answer: str
    outcome: str
    extracted: str | None
    stop_reason: str
    tokens: int | None
    siblings: tuple[str, ...] = ()  # outcomes of the other samples of the same problem

    @property
    def correct(self) -> bool:
        return self.outcome == Outcome.CORRECT


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a data URI, or the reason why it is not shown."""

    uri: str = ""
    width: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """A problem with the responses to compare."""

    id: str
    family: str
    level: str
    question: str
    options: tuple[str, ...]
    gold: str
    pictures: tuple[Picture, ...]
    responses: tuple[Response, ...]


def evaluation_cards(
    rows: Mapping[str, Sequence[Record]], run_dir: Path, image_folders: Sequence[Path] = ()
) -> list[Card]:
    """The same held-out problems before and after training, taking turns through families.

    Within a family, changes in both directions and constant outcomes take turns as well, so the
    choice shows what training broke next to what it mended. Images are shown from the run's folder
    and from `image_folders`.
    """
    newest = rows.get("after") or rows.get("before") or ()
    earlier = {_id(row): row for row in rows.get("before", ())} if rows.get("after") else {}
    families: dict[str, dict[tuple[bool, bool], list[Record]]] = {}
    for row in newest:
        kind = (_greedy_right(earlier.get(_id(row), {})), _greedy_right(row))
        families.setdefault(str(row.get("family")), {}).setdefault(kind, []).append(row)
    # Mended, broken, wrong and right both times; each family starts at another one.
    order = [(False, True), (True, False), (False, False), (True, True)]
    queues = []
    for number, (_, kinds) in enumerate(sorted(families.items())):
        start = number % len(order)
        rotated = order[start:] + order[:start]
        queues.append(_take_turns([kinds.get(kind, []) for kind in rotated]))
    folder = run_dir / "evaluation"
    cards = []
    for row in _take_turns(queues)[:CARDS]:
        old = earlier.get(_id(row))
        title = "After" if rows.get("after") else "Before"
        responses = [_evaluated("Before", old)] if old else []
        responses.append(_evaluated(title, row))
        cards.append(_card(row, (folder, run_dir, *image_folders), responses))
    return cards


def change_counts(rows: Mapping[str, Sequence[Record]]) -> dict[str, int]:
    """How many held-out problems changed sides under greedy decoding; empty without both."""
    before = {_id(row): row for row in rows.get("before", ())}
    pairs = [
        (_greedy_right(before[_id(row)]), _greedy_right(row))
        for row in rows.get("after", ())
        if _id(row) in before
    ]
    if not pairs:
        return {}
    return {
        "wrong → right": pairs.count((False, True)),
        "right → wrong": pairs.count((True, False)),
        "right both times": pairs.count((True, True)),
        "wrong both times": pairs.count((False, False)),
    }


def transcript_cards(run_dir: Path, image_folders: Sequence[Path] = ()) -> list[Card]:
    """The best and the worst rewarded sample of the problems in the latest transcripts, with
    images from the run's folder and from `image_folders`."""
    cards: list[Card] = []
    for path, iteration in reversed(transcript_files(run_dir)):
        for row in read_lines(path)[: CARDS - len(cards)]:
            samples = sorted(recorded_responses(row), key=_reward)
            picked = samples[:1] + samples[-1:] if len(samples) > 1 else samples
            responses = [
                _response(f"Iteration {iteration}, sample {one.get('sample')}", one)
                for one in picked
            ]
            cards.append(_card(row, (path.parent, run_dir, *image_folders), responses))
        if len(cards) >= CARDS:
            break
    return cards


def recorded_responses(row: Record) -> list[Record]:
    """All responses of a record, a greedy one with temperature 0.

    Before 0.2 the records of evaluations had them in `greedy` and `samples`. What is no response
    is passed over.
    """
    if responses := _objects(row.get("responses")):
        return responses
    greedy = [{**one, "temperature": 0} for one in _objects([row.get("greedy")])]
    return greedy + _objects(row.get("samples"))


def picture(name: str, folders: Sequence[Path]) -> Picture:
    """Embed an image file as the model sees it; a path that is not absolute is tried as it is and
    against every folder.

    Only a regular file inside one of the folders is read, its links followed, and it is decoded
    first: a row can never embed anything but a picture, nor one from elsewhere.
    """
    inside = [folder.resolve() for folder in folders]
    candidates = [Path(name), *(folder / name for folder in folders)]
    try:
        found = [path for path in candidates if path.exists()]
        allowed = [path for path in found if pictures.is_inside(path, inside)]
        if not found:
            return Picture(problem=f"image not found: {name}")
        if not allowed:
            return Picture(problem=f"image not readable: {name} (outside of the problems' folders)")
        data = pictures.read_file(allowed[0])
        image = pictures.decoded(data)
        kind = image.format or ""  # none if the picture had to be changed
        if kind not in _WEB_FORMATS or max(image.size) > MAX_IMAGE_SIDE:
            if image.mode not in ("RGB", "RGBA", "L"):
                image = image.convert("RGB")
            image.thumbnail((MAX_IMAGE_SIDE, MAX_IMAGE_SIDE))
            buffer = io.BytesIO()
            image.save(buffer, format="PNG")
            data, kind = buffer.getvalue(), "PNG"
    except Exception as error:  # Pillow raises all sorts on broken files
        return Picture(problem=f"image not readable: {name} ({type(error).__name__})")
    encoded = base64.b64encode(data).decode("ascii")
    return Picture(uri=f"data:{_WEB_FORMATS[kind]};base64,{encoded}", width=image.width)


def split_thinking(text: str) -> tuple[str | None, str]:
    """(thinking, answer) of a response; a thinking that never ends leaves no answer.

    Example: "◁think▷3 + 4 = 7◁/think▷Answer: 7" -> ("3 + 4 = 7", "Answer: 7").
    """
    text = text.strip()
    for token in _END_TOKENS:
        text = text.removesuffix(token)
    head, closing, tail = text.partition(THINK_CLOSE)
    if not closing and not head.startswith(THINK_OPEN):
        return None, text.strip()
    return head.removeprefix(THINK_OPEN).strip(), tail.strip()


def _card(row: Record, folders: Sequence[Path], responses: Sequence[Response]) -> Card:
    level = row.get("level")
    options, images = _names(row.get("options")), _names(row.get("images"))
    answer = row.get("answer", "")
    if options == tuple(CHOICE_LETTERS[: len(options)]):
        options = ()  # the figure itself names them A, B, C
    mention = r"[image \1]" if len(images) > 1 else ""
    return Card(
        id=_id(row),
        family=str(row.get("family", "unknown")).replace("_", " "),
        level="" if level is None else f"level {level}",
        question=PLACEHOLDER.sub(mention, str(row.get("question", ""))).strip(),
        options=options,
        gold=" or ".join(_names(answer)) or str(answer),
        pictures=tuple(picture(name, folders) for name in images),
        responses=tuple(responses),
    )


def _evaluated(title: str, row: Record) -> Response:
    """The greedy response, which nobody picked among several; else the first sample."""
    responses = recorded_responses(row)
    shown = _greedy(row) or next(iter(responses), {})
    drawn = tuple(str(one.get("outcome", "")) for one in responses if one.get("temperature") != 0)
    return _response(title, shown, drawn)


def _response(title: str, sample: Record, siblings: tuple[str, ...] = ()) -> Response:
    thinking, answer = split_thinking(str(sample.get("text", "")))
    stop = str(sample.get("stop_reason", ""))
    return Response(
        title=title,
        thinking=thinking if thinking is None else _shortened(thinking),
        answer=_shortened(answer),
        outcome=str(sample.get("outcome", "unknown")),
        extracted=None if sample.get("extracted") is None else str(sample["extracted"]),
        stop_reason=_STOP_REASONS.get(stop, stop),
        tokens=sample["tokens"] if isinstance(sample.get("tokens"), int) else None,
        siblings=siblings,
    )


def _greedy(row: Record) -> Record:
    """Empty if there is none."""
    return next((one for one in recorded_responses(row) if one.get("temperature") == 0), {})


def _greedy_right(row: Record) -> bool:
    """Right, and not cut."""
    greedy = _greedy(row)
    return greedy.get("outcome") == Outcome.CORRECT and greedy.get("stop_reason") == StopReason.STOP


def _id(row: Record) -> str:
    return str(row.get("id", ""))


def _reward(response: Record) -> float:
    reward = response.get("reward")
    return reward if isinstance(reward, int | float) else 0.0


def _objects(value: object) -> list[Record]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _names(value: object) -> tuple[str, ...]:
    """The texts of a list; none of what is no list."""
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _shortened(text: str) -> str:
    left_out = len(text) - MAX_TEXT_CHARACTERS
    return text if left_out <= 0 else f"{text[:MAX_TEXT_CHARACTERS]}… ({left_out} more characters)"


def _take_turns(queues: Sequence[Sequence[Record]]) -> list[Record]:
    """One of each queue, then the next of each, until all are empty."""
    return [row for turn in zip_longest(*queues) for row in turn if row is not None]
