"""A run folder as a run with an audit leaves it: the real loop, over a reward that can be hacked."""

from __future__ import annotations

from pathlib import Path

from benchmarks.experiments._audit_worlds import HACKABLE, loop_of

from raylign.audit.graded import Audited, with_grades
from raylign.config.alarms import default_alarms
from raylign.config.schema import AuditConfig, TelemetryConfig
from raylign.telemetry.alarms import Alarms
from raylign.telemetry.recorder import Recorder


async def audited_run(folder: Path, steps: int = 40, kept: int = 4, world: str = "tampering") -> Path:
    """kept: rollouts of a step that are recorded whatever graders say."""
    loop, alarms = loop_of(HACKABLE[world], 1, AuditConfig()), Alarms(default_alarms())
    recorder = Recorder(folder, TelemetryConfig(rollouts_per_step=kept))
    recorder.settings({"recipe": "grpo", "scale": "tiny", "seed": 1})
    recorder.event("headline", metric="reward/mean")
    recorder.event("stage_started", stage="rl", model="")
    await loop.publish()
    for step in range(1, steps + 1):
        result = await loop.step(step - 1)
        assert isinstance(result.audited, Audited)
        recorder.metrics(step, result.metrics, "rl")
        recorder.rollouts(step, with_grades(result.groups, result.audited), result.batch, result.places, "rl")
        for news in result.audited.news:
            recorder.event(news.kind, stage="rl", stage_step=step, **news.facts)
        for alarm in alarms.step(result.metrics):
            recorder.event("alarm", stage="rl", stage_step=step, **alarm.fields())
    recorder.event("stage_finished", stage="rl", metrics={})
    recorder.close()
    return folder
