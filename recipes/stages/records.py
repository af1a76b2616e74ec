"""What a run records and shows: events, phases, and the metrics of every step with the alarms that they raise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from raylign.actors.roles import Roles
from raylign.audit.graded import Audited, with_grades
from raylign.batch import Batch
from raylign.config.alarms import AlarmConfig
from raylign.contracts import Place
from raylign.recipes.stages.actor_figures import ActorFigures
from raylign.recipes.stages.outcome import refuse_lost
from raylign.records import Group
from raylign.run_folder import RunFolder
from raylign.telemetry.alarms import Alarms
from raylign.telemetry.progress import Progress
from raylign.telemetry.recorder import Recorder, read_lines


class RunRecords:
    """The folder of a run and everything that is written to it or shown while it works."""

    def __init__(
        self, folder: RunFolder, recorder: Recorder, progress: Progress, alarms: Mapping[str, AlarmConfig]
    ) -> None:
        self.folder = folder
        self.recorder = recorder
        self.progress = progress
        self.alarms = Alarms(alarms)
        self.stop_requested = False
        self.recorded = False  # any step of the present stage: before the first a stop costs nothing
        self.first_step = 0  # steps of the run before this stage: recorded steps count over all stages
        self.figures = ActorFigures(recorder.event)
        self.roles: Roles

    def event(self, name: str, message: str = "", **facts: Any) -> None:
        """Record an event; a message is shown as well."""
        self.recorder.event(name, **facts)
        if message:
            self.progress.message(" ".join(message.split()))

    def tell(self, stage: str, step: int, audited: Audited | None) -> None:
        """Record what an audit found out in a step, and say it."""
        for news in audited.news if audited else ():
            self.event(news.kind, news.message, stage=stage, stage_step=step, **news.facts)

    def starting(self, what: str, ready: Callable[[], int] | None = None, of: int = 0) -> AbstractContextManager[None]:
        """Shown as being started while the block lasts, see `Progress.starting`."""
        return self.progress.starting(what, ready, of)

    def phase(self, stage: str, step: int, phase: str) -> None:
        """A phase of a step (from 0) begins."""
        self.recorder.event("phase", stage=stage, stage_step=step, phase=phase)

    def begin(self, stage: str, total: int, done: int) -> None:
        """A stage starts, or goes on after `done` of its steps: forget what was recorded beyond that point."""
        self.recorder.truncate(self.first_step + done)
        recorded = read_lines(self.folder.path / "metrics.jsonl")
        self.alarms.begin([line for line in recorded if line["stage"] == stage])
        self.progress.start(stage, total, done)

    def record(
        self,
        stage: str,
        step: int,
        metrics: Mapping[str, float],
        groups: Sequence[Group] = (),
        batch: Batch | None = None,
        *,
        places: Sequence[Place] = (),
        audited: Audited | None = None,
    ) -> None:
        """Write down step `step` (from 1) of a stage, show it, raise its alarms. places: as `Recorder.rollouts`;
        audited: what graders said of these groups, and of others that were sampled with them.
        """
        metrics = {**metrics, **self.figures.take(stage, self.roles.engines.pool, *self.roles.scoring_pools)}
        self.recorder.metrics(self.first_step + step, metrics, stage)
        if groups or (audited and audited.graded):
            shown = with_grades(groups, audited)
            self.recorder.rollouts(self.first_step + step, shown, batch, places, stage)
        self.progress.step(step, metrics)
        self.recorded = True
        self.tell(stage, step, audited)
        refuse_lost(stage, step, metrics)
        for alarm in self.alarms.step(metrics):
            self.event("alarm", str(alarm), stage=stage, stage_step=step, **alarm.fields())
            self.stop_requested |= alarm.stop
