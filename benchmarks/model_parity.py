"""Run the parity tests and keep what they measured: `python benchmarks/model_parity.py`.

Writes benchmarks/results/model_parity.json, the figures of kimi_vl_model/README.md.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "model_parity.json"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "tests/kimi_vl_model"]
        command += [f"--junitxml={report}"]
        subprocess.run([*command, "-o", "junit_family=xunit1"], cwd=ROOT, check=True)
        cases = ElementTree.parse(report).iter("testcase")
        measured = {
            f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}": {
                prop.get("name"): float(prop.get("value", "nan")) for prop in case.iter("property")
            }
            for case in cases
            if case.find("properties") is not None
        }
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    result = {
        "machine": machine,
        "versions": versions,
        "command": "python benchmarks/model_parity.py",
        "measured": measured,
    }
    OUT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(OUT)


if __name__ == "__main__":
    main()
