"""Going on with a rating that was killed, and curating what it rated, with a real engine."""

from __future__ import annotations

import json
import shutil

import yaml


def test_a_broken_off_rating_is_resumed_and_its_rates_are_curated(
    workshop, inside, records, write_records
):
    config = yaml.safe_load((workshop.folder / "rl.yaml").read_text())
    # Sixteen samples at a time in the engine are chunks of two problems.
    config["rollout"]["engine"]["max_num_seqs"] = 8
    (workshop.folder / "rate.yaml").write_text(yaml.safe_dump(config))
    heldout = records(workshop.folder / "problems/heldout.jsonl")
    rows = [row | {"note": number} for number, row in enumerate(heldout)]
    broken = rows[0] | {"id": "broken", "images": ["images/none.png"]}
    write_records(workshop.folder / "problems/rated_in.jsonl", [*rows, broken])

    out = workshop.folder / "rated/out.jsonl"
    out.parent.mkdir()
    shutil.copytree(workshop.folder / "problems/images", out.parent / "images")
    command = ("kvl-rl", "rate", "sft/final", "problems/rated_in.jsonl", "--out", out)
    settings = ("--samples", "8", "--config", "rate.yaml")
    inside(*command, *settings)
    log = out.with_suffix(".samples.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    # What a kill leaves that came in the middle of the fourth problem.
    out.unlink()
    log.write_bytes(b"".join(lines[:3]) + lines[3][:40])
    resumed = inside(*command, *settings)
    assert "3 of 8 problems are rated already" in resumed.stdout
    assert "skipped broken" in resumed.stdout
    assert log.read_bytes().startswith(b"".join(lines[:3]))

    rated = records(out)
    assert [row["id"] for row in rated] == [row["id"] for row in rows]
    right = [
        sum(
            (one["outcome"], one["stop_reason"]) == ("correct", "stop") for one in line["responses"]
        )
        for line in records(log)
    ]
    assert [row["pass_rate"] * 8 for row in rated] == right
    assert all(row["pass_rate"] * 8 in range(9) for row in rated)
    # Images named by their content have the same names again where they are copied to.
    unrated = [{k: v for k, v in row.items() if k != "pass_rate"} for row in rated]
    assert unrated == [{k: v for k, v in row.items() if k != "pass_rate"} for row in rows]
    assert all((out.parent / row["images"][0]).is_file() for row in rated)

    kept = workshop.folder / "curated/kept.jsonl"
    inside(
        *("kvl-rl", "curate", out, "--out", kept, "--checkpoint", "sft/final"),
        *("--tries", "4", "--config", "rate.yaml"),
    )
    report = json.loads(kept.with_suffix(".json").read_text())
    dropped = {row["id"]: row["reason"] for row in report["rows"]}
    assert report["kept"] + len(dropped) == 8
    assert set(dropped.values()) <= {"guessed", "duplicate", "always_right"}
    assert [row["id"] for row in records(kept)] == [
        row["id"] for row in rows if row["id"] not in dropped
    ]
    assert all((kept.parent / row["images"][0]).is_file() for row in records(kept))
