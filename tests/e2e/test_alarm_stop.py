"""An alarm that may stop a run: it saves itself as on SIGTERM, and the same command takes it to its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_runs import lines, steps, train

pytestmark = [pytest.mark.e2e, pytest.mark.deepspeed]

RUN = [
    "recipe=grpo",
    "scale=tiny",
    "~stages.before",
    "~stages.rl",
    "~stages.after",
    "stages.warmup.steps=6",
    "stages.warmup.eval_every=0",
    "stages.warmup.stop_at=null",
    "data.size=64",
    "data.holdout=16",
    "run.save_every=0",
    "telemetry.progress=plain",
    "+alarms.high.metrics=[loss]",
    "+alarms.high.threshold=0",
    "+alarms.high.window=3",
    "+alarms.high.action=stop",
]


def test_an_alarm_stops_the_run_once_and_it_continues(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = train(folder, RUN, status=3)
    assert "alarm high: loss is" in first and "stopped after step 3 of 6; the same command continues it" in first
    assert [row["step"] for row in steps(folder, "warmup")] == [1, 2, 3]
    assert "alarm high: loss is" in (folder / "logs" / "driver.log").read_text()
    assert all(0 <= row["loop/lag_max_s"] < 60 for row in steps(folder, "warmup"))
    second = train(folder, RUN)
    assert "alarm high" not in second, "what was raised before the stop is not raised again"
    assert [row["step"] for row in steps(folder, "warmup")] == [1, 2, 3, 4, 5, 6]
    (alarm,) = [event for event in lines(folder / "events.jsonl") if event["kind"] == "alarm"]
    assert (alarm["step"], alarm["alarm"], alarm["action"]) == (3, "high", "stop") and alarm["value"] > 0
    assert '"alarm":"high"' in (folder / "report.html").read_text()
