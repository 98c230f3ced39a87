"""Rating with a real engine, killed on the way, and curating what it rated."""

from __future__ import annotations

import json

import yaml


def test_a_killed_rating_is_resumed_and_its_rates_are_curated(workshop, records, write_records):
    config = yaml.safe_load((workshop.folder / "rl.yaml").read_text())
    # Sixteen samples at a time in the engine are chunks of two problems.
    config["rollout"]["engine"]["max_num_seqs"] = 8
    (workshop.folder / "rate.yaml").write_text(yaml.safe_dump(config))
    heldout = records(workshop.folder / "problems/heldout.jsonl")
    rows = [row | {"note": number} for number, row in enumerate(heldout)]
    broken = rows[0] | {"id": "broken", "images": ["images/none.png"]}
    write_records(workshop.folder / "problems/rated_in.jsonl", [*rows, broken])

    out = workshop.folder / "rated/out.jsonl"
    command = ("kvl-rl", "rate", "sft/final", "problems/rated_in.jsonl", "--out", out)
    command = (*command, "--samples", "8", "--config", "rate.yaml")
    killed = workshop.start(*command)
    killed.wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 2)
    killed.kill()
    with out.open("ab") as file:
        file.write(b'{"id": "half a li')
    before = out.read_bytes().splitlines()[:-1]
    resumed = workshop.run(*command)
    assert f"{len(before)} of 8 problems are rated already" in resumed.stdout
    assert "skipped broken" in resumed.stdout
    assert out.read_bytes().splitlines()[: len(before)] == before

    rated = records(out)
    assert [row["id"] for row in rated] == [row["id"] for row in rows]
    assert all(row["pass_rate"] * 8 in range(9) for row in rated)
    moved = [f"../problems/{row['images'][0]}" for row in rows]
    assert [row.pop("images") for row in rated] == [[name] for name in moved]
    unrated = [{k: v for k, v in row.items() if k != "pass_rate"} for row in rated]
    assert unrated == [
        {k: v for k, v in row.items() if k not in ("images", "pass_rate")} for row in rows
    ]

    kept = workshop.folder / "curated/kept.jsonl"
    workshop.run(
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
