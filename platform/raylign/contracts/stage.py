"""Stages: what a recipe is made of, in order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from raylign.contracts.part import Part

ROLES = frozenset({"rollout", "rewards", "learner"})


@dataclass
class StageSettings:
    """Settings of every stage; the ``Config`` of a stage derives from it."""

    start: str = ""  # model to start from: a path, @NAME for what stage NAME made; empty: the stage before's


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """The arithmetic of a stage that samples groups and trains on them."""

    steps: int
    prompts_per_step: int
    group_size: int
    minibatches: int = 1
    epochs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """Result of a finished stage, stored in the run folder and read when the run is continued.

    Example: ``StageResult(model="outputs/run/stages/sft/model", steps=600, metrics={"eval/score": 0.41})``
    """

    steps: int  # recorded by the stage
    metrics: Mapping[str, float] = field(default_factory=dict)
    model: str = ""  # folder of the model that later stages start from; empty: the stage made none
    files: Mapping[str, str] = field(default_factory=dict)  # further files by name


class Stage(Part):
    """One step of a recipe. `name` is its key under ``stages``."""

    what = "a stage"
    made_with = ("name",)
    settings = StageSettings
    publishes: ClassVar[bool] = False  # its own weights to the engines, before they sample

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config)
        self.name = name

    @classmethod
    def roles(cls, config: Any) -> frozenset[str]:
        """Which actors it talks to, a subset of `ROLES`."""
        return ROLES

    @classmethod
    def batch(cls, config: Any) -> BatchShape | None:
        """The shape of its steps where it samples groups and trains on them, else None."""
        return None

    @abstractmethod
    async def run(self, context: Any) -> StageResult:
        """Do the work, from its newest checkpoint if there is one. context: `raylign.recipes.stages.context`."""
