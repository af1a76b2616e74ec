"""The models of a run: which one the present stage starts from, and the actors that hold them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from raylign.actors.learner.group import LearnerGroup
from raylign.actors.roles import Roles
from raylign.config.references import bound
from raylign.config.resolve import ResolvedStage, Run
from raylign.config.schema import Config, LoraConfig, OptimConfig
from raylign.contracts import FrozenStream
from raylign.placement import Placement
from raylign.recipes.stages.lineage import Lineage
from raylign.recipes.stages.reading import Reading
from raylign.recipes.stages.records import RunRecords
from raylign.records import Prompt
from raylign.run_folder import RunFolder
from raylign.telemetry.progress import Progress
from raylign.telemetry.recorder import Recorder


class RunModels(RunRecords):
    """`run` has the paths of all artifacts that finished stages left; `stage` is the present one."""

    def __init__(
        self,
        run: Run,
        folder: RunFolder,
        recorder: Recorder,
        progress: Progress,
        placement: Placement,
        *,
        reading: Reading | None = None,
    ) -> None:
        super().__init__(folder, recorder, progress, run.config.alarms)
        self.run = run
        self.stage: ResolvedStage | None = None
        self.reading = reading or Reading(run)
        start = self.reading.start
        self.lineage = Lineage(start, folder, run)
        self.template = self.reading.template
        self.tokenizer = self.template.tokenizer
        self.roles = Roles(
            run,
            placement,
            log_dir=folder.path / "logs",
            template=self.template,
            start_model=start,
            model_of=self.lineage.of,
            told=self.event,
            starting=self.starting,
        )

    @property
    def cfg(self) -> Config:
        """The run's settings."""
        return self.run.config

    @property
    def model_name(self) -> str:
        """The present model as what is made with it names it: within the run folder wherever that is."""
        path, folder = Path(self.lineage.model).absolute(), self.folder.path.absolute()
        return str(path.relative_to(folder)) if path.is_relative_to(folder) else self.lineage.model

    def enter(self, name: str) -> ResolvedStage:
        """The stage of that name is the present one: what it refers to is there. Raises RunError when it is not."""
        self.run = self.roles.run = bound(self.run, self.lineage.path_of)
        self.stage = next(stage for stage in self.run.stages if stage.name == name)
        self.lineage.model = self.lineage.of(self.stage.config.start)
        return self.stage

    async def learner(
        self, optim: OptimConfig, total_steps: int, lora: LoraConfig, kind: str = "causal_lm"
    ) -> LearnerGroup:
        """The learner, loaded from the present model. kind: what it computes, a policy's log-probs or scores."""
        return await self.roles.learner(self.lineage.model, optim, total_steps, lora, kind)

    async def critic(self, total_steps: int) -> LearnerGroup:
        """The value model, started from its own path or the present model."""
        return await self.roles.critic(self.lineage.model, total_steps)

    async def frozen(self, streams: Collection[str], prompts: Sequence[Prompt]) -> dict[str, FrozenStream]:
        """The frozen model that fills each of these streams, by stream; started when needed (`FrozenModels.fill`)."""
        return await self.roles.frozen.fill(streams, prompts, self.roles.shared)

    def hand_over(self, model: Path, *, published: bool | None, lora: LoraConfig) -> None:
        """Make a stage's model, which the learner has, the start of the next. published: as `Engines.stage_trained`."""
        self.lineage.model = str(model)
        self.roles.engines.stage_trained(self.lineage.model, published=published, whole=not lora.sent)
