"""Fit a small model to rows, in this process: a classifier, a table, clusters."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import Node, node
from raylign.contracts import Estimator, PlacedRow, Stage, StageResult, StageSettings
from raylign.data.files import read_rows
from raylign.data.rows import MARK, DataRow, read_row
from raylign.errors import Problem, RunError
from raylign.recipes.stages.context import RunContext
from raylign.records import derive_seed

FITTED = "fitted"


class Fit(Stage):
    """Fit `estimator` to the rows of `data`, and save it. Leaves ``fitted``, the folder that it is loaded from.

    Rows of a file reach it as their columns stand there; of rows that a stage wrote, as the fields of a `DataRow`
    (``messages``, ``target``, ``answer``, ``domain``, ``meta``: where they come from in ``meta.generated``).
    """

    @dataclass
    class Config(StageSettings):
        """What is fitted."""

        estimator: Node = node(Estimator)

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """No actor: it runs in the driver."""
        return frozenset()

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The fitted estimator's folder."""
        return (FITTED,)

    @classmethod
    def logs(cls, key: str, config: Config, run: Run) -> tuple[str, ...]:
        """What the estimator says of itself."""
        return ("fit/rows", "fit/*")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """There must be rows, and something to fit."""
        findings = Findings(key)
        why, fix = "there is nothing to fit", f"set {key}.estimator._target_=package.module.Class"
        findings.expect(bool(config.estimator), "estimator", "{}", why, fix)
        why, fix = "there are no rows to fit it to", f"set {key}.data=@STAGE or {key}.data=FILE.jsonl"
        findings.expect(bool(config.data or run.config.data.path), "data", "empty", why, fix)
        return findings

    async def run(self, context: RunContext) -> StageResult:
        """Read, fit in a thread, save. Raises DataError without a row, and on one that cannot be learned from."""
        context.begin(self.name, 1, 0)
        path = self.config.data or context.cfg.data.path
        rows = await asyncio.to_thread(placed_rows, path)
        estimator: Estimator = context.run.parts[f"stages.{self.name}.estimator"].build()
        context.phase(self.name, 0, "fit")
        seed = derive_seed(context.cfg.seed, "stage", self.name)
        metrics = self._checked(await asyncio.to_thread(estimator.fit, rows, seed))
        folder = await asyncio.to_thread(saved, estimator, context.folder.stage(self.name) / FITTED)
        metrics |= {"fit/rows": float(len(rows))}
        context.record(self.name, 1, metrics)
        return StageResult(steps=1, metrics=metrics, artifacts={FITTED: str(folder)})

    def _checked(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics under ``fit/``. Raises RunError on one that is no finite number."""
        for name, value in metrics.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise RunError(f"stages.{self.name}.estimator: fit/{name} is {value!r}; fix: give finite numbers only")
        return {f"fit/{name}": float(value) for name, value in metrics.items()}


def placed_rows(path: str) -> list[PlacedRow]:
    """The rows of a file, see `Fit`. Raises DataError on a file without any."""
    return [PlacedRow(place, _columns(row, place) if MARK in row else row) for place, row in read_rows(path)]


def _columns(row: Mapping[str, object], place: str) -> dict[str, object]:
    made = read_row(row, place)
    return {item.name: getattr(made, item.name) for item in fields(DataRow) if item.name != "place"}


def saved(estimator: Estimator, folder: Path) -> Path:
    """The folder, with what the estimator wrote. Raises RunError when it wrote nothing."""
    staging = folder.with_name(f".writing-{folder.name}")
    for old in (staging, folder):  # of a run that was killed
        shutil.rmtree(old, ignore_errors=True)
    staging.mkdir(parents=True)
    estimator.save(staging)
    if not any(staging.iterdir()):
        raise RunError(f"{type(estimator).__name__}.save wrote nothing; fix: write what `load` needs")
    os.rename(staging, folder)
    return folder
