"""`kvl-rl report RUN`: one HTML file that shows a run, readable without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..configs.errors import KVLError
from ..configs.system.files import write_atomically
from ..configs.text.variables import filled_where_set
from ..problems.pictures import allowed_folders
from ..run_files.metrics_file import Record, read_lines, read_records
from .cards import change_counts, evaluation_cards, transcript_cards
from .curves import breakdowns, curves, sft_loss

MISSING = "–"


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a finished or a running run's folder and return its path.

    What the folder does not hold (yet) is named on the page. Raises KVLError if it is no run.
    """
    config = _config(run_dir)
    records = read_records(run_dir / "metrics.jsonl")
    evaluations, notes = _evaluations(run_dir)
    if not records:
        notes.append("No iteration has finished yet, so there are no curves.")
    rows = {name: read_lines(run_dir / "evaluation" / f"{name}.jsonl") for name in evaluations}
    folders = _image_folders(config)
    held_out = evaluation_cards(rows, run_dir, folders)
    cards = held_out or transcript_cards(run_dir, folders)
    if not cards:
        notes.append("No rollouts have been written yet, neither by evaluation nor as transcripts.")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("report.html.jinja").render(
        name=" / ".join(run_dir.resolve().parts[-2:]),
        status=_status(run_dir, config, records),
        facts=_facts(config, records, evaluations),
        headline=_headline(evaluations),
        notes=notes,
        breakdowns=breakdowns(evaluations),
        curves=curves(records, evaluations, config.get("mismatch_tolerance")),
        sft=sft_loss(_sft_folders(run_dir, config)),
        time=_time_spent(records),
        changes=change_counts(rows),
        cards=cards,
        from_transcripts=bool(cards) and not held_out,
        failures=read_lines(run_dir / "failures.jsonl"),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else "",
    )
    path = run_dir / "report.html"
    write_atomically(path, page)
    return path


def _config(run_dir: Path) -> Record:
    """The saved config tree, as plain data: a report must not depend on today's schema."""
    if not run_dir.is_dir():
        raise KVLError(f"{run_dir}: no such run folder")
    path = run_dir / "config.yaml"
    if not path.exists() and not (run_dir / "metrics.jsonl").exists():
        raise KVLError(f"{run_dir} is not a run folder: it has no config.yaml and no metrics.jsonl")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    except yaml.YAMLError as error:
        raise KVLError(f"{path}: not readable as YAML ({error})") from error
    return tree if isinstance(tree, dict) else {}


def _evaluations(run_dir: Path) -> tuple[dict[str, Record], list[str]]:
    """The summaries before and after the training, and a note for each that is missing."""
    found, notes = {}, []
    for name in ("before", "after"):
        path = run_dir / "evaluation" / f"{name}.json"
        if not path.exists():
            notes.append(f"No evaluation {name} training (evaluation/{name}.json is missing).")
            continue
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            summary = None
        if isinstance(summary, dict):
            found[name] = summary
        else:
            notes.append(f"evaluation/{name}.json is not readable and was left out.")
    return found, notes


def _image_folders(config: Record) -> list[Path]:
    """Where the images of the run's problems may lie, as loading them allowed it."""
    trained, held_out = config.get("problems"), dig(config, "evaluation", "problems")
    sources = [*(trained if isinstance(trained, list) else [trained]), held_out]
    folders: list[Path] = []
    for source in sources:
        if isinstance(source, dict) and source.get("path"):
            roots = source.get("image_roots") or ()
            folders += allowed_folders(Path(str(source["path"])), [Path(str(r)) for r in roots])
    return folders


def _sft_folders(run_dir: Path, config: Record) -> list[Path]:
    """Where the supervised stage before this run may have left its metrics.

    A checkpoint folder is usually its run's `final/`; else the stages lie side by side.
    """
    start = filled_where_set(str(config.get("checkpoint") or ""))
    beside = run_dir.resolve().parent / "sft"
    return [Path(start).parent, beside] if start else [beside]


def _status(run_dir: Path, config: Record, records: Sequence[Record]) -> str:
    planned, done = config.get("iterations"), _done(records)
    if (run_dir / "final").exists() or (planned and done >= planned):
        return "finished"
    return f"unfinished: {done} of {planned or '?'} iterations"


def _done(records: Sequence[Record]) -> int:
    return records[-1]["iteration"] + 1 if records else 0


def _facts(
    config: Record, records: Sequence[Record], evaluations: Mapping[str, Record]
) -> list[tuple[str, str]]:
    """What the header says about a run; a fact with an unknown part is left out."""

    def get(*keys: str) -> Any:
        return dig(config, *keys)

    held_out = next(iter(evaluations.values()), {})
    seconds = sum(record.get("seconds_total") or 0.0 for record in records)
    rows = (
        ("Checkpoint", "{}", get("checkpoint")),
        ("Problems", "{}", get("problems", "path")),
        ("Iterations", "{} of {}", _done(records), get("iterations")),
        (
            "Batch",
            "{} problems × {} samples",
            get("rollout", "problems_per_iteration"),
            get("rollout", "samples_per_problem"),
        ),
        (
            "Sampling",
            "temperature {}, at most {} tokens",
            get("rollout", "temperature"),
            get("rollout", "max_response_tokens"),
        ),
        ("Objective", "{}, τ = {}", get("objective", "name"), get("objective", "tau")),
        (
            "Optimizer",
            "{}, learning rate {}, {} steps per iteration",
            get("learner", "optimizer", "name"),
            get("learner", "optimizer", "learning_rate"),
            get("learner", "minibatches"),
        ),
        ("Held-out problems", "{} × {} samples", held_out.get("problems"), held_out.get("samples")),
        ("Time in this loop", "{}", duration(seconds)),
        ("Seed", "{}", get("seed")),
    )
    return [(label, form.format(*values)) for label, form, *values in rows if None not in values]


def _headline(evaluations: Mapping[str, Record]) -> list[dict[str, str]]:
    """The large numbers: a name, its value before and after, and the change."""
    before, after = evaluations.get("before", {}), evaluations.get("after", {})
    shown = []
    for label, key, scale, form, unit in (
        ("pass@1, sampled", "pass_at_1", 100, "{:.1f} %", "points"),
        ("accuracy, greedy", "greedy", 100, "{:.1f} %", "points"),
        ("cut by the token cap", "truncated_share", 100, "{:.1f} %", "points"),
        ("tokens per response", "response_tokens_mean", 1, "{:.0f}", "tokens"),
    ):
        old, new = before.get(key), after.get(key)
        if old is None and new is None:
            continue
        change, tone = "", "neutral"
        if old is not None and new is not None:
            change = f"{scale * (new - old):+.1f} {unit}".replace("-", "−")
            if new != old and key != "response_tokens_mean":  # length is neither good nor bad
                tone = "good" if (new > old) != (key == "truncated_share") else "bad"
        values = [MISSING if v is None else form.format(scale * v) for v in (old, new)]
        shown.append(
            {
                "label": label,
                "before": values[0],
                "after": values[1],
                "change": change,
                "tone": tone,
            }
        )
    return shown


def _time_spent(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Seconds per stage over all iterations, with their share of the whole, largest first."""
    total = sum(record.get("seconds_total") or 0.0 for record in records)
    if not total:
        return []
    stages: dict[str, float] = {}
    for record in records:
        for key, value in record.items():
            if key.startswith("seconds_") and key != "seconds_total" and value:
                name = key.removeprefix("seconds_")
                stages[name] = stages.get(name, 0.0) + value
    ordered = sorted(stages.items(), key=lambda item: -item[1])
    rest = total - sum(stages.values())
    if rest > 0.01 * total:
        ordered.append(("the rest", rest))
    return [
        {"name": name, "time": duration(seconds), "share": seconds / total}
        for name, seconds in ordered
    ]


def duration(seconds: float) -> str:
    """Seconds as people say them: "8.2 s", "4 min 05 s", "2 h 10 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def dig(tree: Any, *keys: str) -> Any:
    """The value at a path of keys, or None where the path ends early."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
