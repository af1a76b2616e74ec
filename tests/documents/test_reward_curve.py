"""The README's curve: drawn from a run's own metrics by a script that is there, and of the figures in the text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from benchmarks.reward_curve import Curve, draw, drawn_from, read
from pages import ROOT

PICTURE = ROOT / "platform" / "pictures" / "reward_curve.svg"


def run_with(folder: Path, *lines: dict[str, object]) -> Path:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_curve_of_a_run(tmp_path: Path) -> None:
    run = run_with(
        tmp_path,
        {"stage": "warmup", "eval/score": 0.3},
        {"stage": "before", "eval/score": 0.4},
        {"stage": "rl", "reward/mean": 0.5},
        {"stage": "rl", "reward/mean": 0.625, "eval/score": 0.6},
        {"stage": "rl", "reward/mean": 0.7},
        {"stage": "after", "eval/score": 0.8},
    )
    curve = read(run)
    assert curve.rewards == (0.5, 0.625, 0.7) and curve.scores == ((0, 0.4), (2, 0.6), (3, 0.8))
    assert drawn_from(draw(curve)) == curve
    with pytest.raises(ValueError, match="no step of stage sft"):
        read(run, "sft")


def test_what_the_picture_has_no_room_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="outside 0 to 1"):
        read(run_with(tmp_path, {"stage": "rl", "reward/mean": -1.0}))


def test_higher_is_above() -> None:
    picture = draw(Curve(title="t", rewards=(0.0, 1.0), scores=()))
    (path,) = re.findall(r'class="reward" d="M([\d. ]+)"', picture)
    first, last = path.split()[1::2]
    assert float(first) > float(last), "y grows downwards in an SVG"


def test_the_picture_of_the_readme_is_the_run_of_its_text() -> None:
    picture = PICTURE.read_text()
    curve = drawn_from(picture)
    assert draw(curve) == picture
    told = re.search(r"before ([\d.]+)% -> after ([\d.]+)%", (ROOT / "README.md").read_text())
    assert told and [f"{score:.1%}" for _, score in (curve.scores[0], curve.scores[-1])] == [
        f"{p}%" for p in told.groups()
    ]
    assert f"outputs/{curve.title}/report.html" in (ROOT / "README.md").read_text()
