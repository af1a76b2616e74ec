"""Proof that nothing of a model changed: its fingerprint before, and the same after."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.contracts import Stage, StageResult, StageSettings, artifact
from raylign.data.score_cache import fingerprint
from raylign.errors import Problem, RunError
from raylign.recipes.stages.context import RunContext
from raylign.run_folder import write_atomically

SEALED = "fingerprint"


class Seal(Stage):
    """Write down the fingerprint of the model's files, or with `of` compare it with one that was written down.

    No stage in between may talk to a learner: that is refused when the run is composed.
    """

    @dataclass
    class Config(StageSettings):
        """What it is compared with."""

        of: str = artifact(SEALED)  # @STAGE of an earlier seal; empty: this is the first

    config: Config

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """No actor: files are read."""
        return frozenset()

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The fingerprint, in a file."""
        return (SEALED,)

    @classmethod
    def logs(cls, key: str, config: Config, run: Run) -> tuple[str, ...]:
        """Whether it is unchanged."""
        return ("seal/unchanged",) if config.of else ()

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """Nothing learns between a seal and the one that it is compared with."""
        findings, names = Findings(key), [stage.name for stage in run.stages]
        first = config.of[1:].partition("/")[0]
        if first not in names:
            return findings
        between = run.stages[names.index(first) : names.index(key.removeprefix("stages."))]
        learning = [stage.key for stage in between if "learner" in stage.roles]
        why = f"{', '.join(learning)} learns in between, so that the model cannot be the same"
        findings.expect(not learning, "of", config.of, why, f"leave {', '.join(learning)} out, or seal after it")
        return findings

    async def run(self, context: RunContext) -> StageResult:
        """Read all files of the model. Raises RunError where they are not the same any more."""
        context.begin(self.name, 1, 0)
        context.phase(self.name, 0, "fingerprint")
        model = context.lineage.model
        now = await asyncio.to_thread(fingerprint, model)
        metrics: dict[str, float] = {}
        if self.config.of:
            before = Path(self.config.of).read_text().strip()
            if now != before:
                raise RunError(
                    f"stages.{self.name}: the model {model} has the fingerprint {now}, and had {before} before; fix: "
                    "find what wrote to it, and start a new run"
                )
            metrics = {"seal/unchanged": 1.0}
        path = context.folder.stage(self.name) / f"{SEALED}.txt"
        await asyncio.to_thread(_written, path, now)
        context.record(self.name, 1, metrics)
        return StageResult(steps=1, metrics=metrics, artifacts={SEALED: str(path)})


def _written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{text}\n".encode())
