"""The report: one file, no network, whatever the run folder holds."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from raylign.config.schema import TelemetryConfig
from raylign.records import Group
from raylign.telemetry.recorder import Recorder
from raylign.telemetry.report import _ticks, charts, write_report

Groups = Callable[..., Group]


def a_run(folder: Path, a_group: Groups, steps: int = 60) -> None:
    noise = random.Random(0)
    recorder = Recorder(folder, TelemetryConfig())
    recorder.settings({"recipe": "grpo", "data": {"task": "a<b>", "size": 3}}, ["recipe=grpo", "seed=1"])
    recorder.metrics(1, {"eval/score": 0.31, "eval/length/mean": 4.0}, "before")
    for step in range(2, steps):
        reward = 1 / (1 + math.exp(-(step - 30) / 10))
        recorder.metrics(
            step,
            {
                "reward/mean": reward + noise.gauss(0, 0.03),
                "reward/format": 0.9,
                "loss/policy": -0.01 * noise.random(),
                "length/mean": 6 - reward,
                "publish/gap": 1e-6 * noise.random(),
                "kl": float("nan") if step == 5 else reward * 0.01,
            },
            "rl",
        )
    recorder.metrics(steps, {"eval/score": 0.925, "eval/length/mean": 5.0}, "after")
    recorder.rollouts(steps, [a_group(0), a_group(1)], stage="after")
    recorder.event("worker_restarted", role="rollout")
    recorder.event("phase", phase="learn")
    recorder.close()


def test_a_whole_run(tmp_path: Path, a_group: Groups) -> None:
    a_run(tmp_path, a_group)
    html = write_report(tmp_path).read_text()
    assert "31.0% → 92.5%" in html and "+61.5 points" in html
    assert "worker_restarted" in html and "phase: learn" not in html
    assert "a&lt;b&gt;" in html, "values are escaped"
    assert "answer 0" in html and "missing: timeout" in html and "1+1?" in html
    assert not re.search(r"(src|href)\s*=", html) and "http" not in html, "nothing is fetched"
    drawings = re.findall(r"<svg.*?</svg>", html, re.S)
    assert len(drawings) >= 5
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_an_empty_folder_and_a_young_run(tmp_path: Path) -> None:
    assert "No metrics" in write_report(tmp_path).read_text()
    recorder = Recorder(tmp_path, TelemetryConfig())
    recorder.metrics(1, {"loss": 0.5}, "sft")
    recorder.close()
    write_report(tmp_path)


def test_charts_by_family() -> None:
    lines = [
        {"step": s, "stage": "rl", "time": s, "zebra": 1.0, "yak": s, "reward/a": s, "reward/b": -s} for s in range(3)
    ]
    made, steady = charts(lines)
    assert [(chart["title"], chart["main"]) for chart in made] == [("reward", True), ("yak", False)]
    assert [name for _, name, _ in made[0]["legend"]] == ["a", "b"]
    assert steady == [("zebra", "1")]
    assert charts(lines[:1])[0] == [], "one point is no curve"


def test_no_line_joins_two_stages() -> None:
    lines = [{"step": s, "stage": "a" if s < 3 else "b", "time": s, "loss": s} for s in range(6)]
    (chart,), _ = charts(lines)
    assert chart["svg"].count("<polyline") == 2


def test_many_series_are_split() -> None:
    lines = [{"step": s, "stage": "rl", "time": s} | {f"m/{i:02d}": s * (i + 1) for i in range(14)} for s in range(3)]
    assert [len(chart["legend"]) for chart in charts(lines)[0]] == [6, 6, 2]


def test_ticks_enclose() -> None:
    for low, high in ((0, 1), (-3e-7, 2e-7), (5, 5), (0, 0), (1e6, 3e6), (-1, -0.2)):
        ticks = _ticks(low, high)
        assert ticks[0] <= low + 1e-12 and ticks[-1] >= high - 1e-12 and 2 <= len(ticks) <= 8, (low, high, ticks)
