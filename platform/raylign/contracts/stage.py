"""Stages: what a recipe is made of, in order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from raylign.contracts.artifacts import MODEL, ROWS, artifact
from raylign.contracts.part import Part

if TYPE_CHECKING:
    from raylign.config.resolve import Run

ROLES = frozenset({"rollout", "rewards", "learner"})


@dataclass
class StageSettings:
    """Settings of every stage; the ``Config`` of a stage derives from it."""

    start: str = artifact(MODEL)  # model to start from: a folder, @STAGE; empty: the stage before's
    data: str = artifact(ROWS)  # rows of its own: a file, @STAGE or @STAGE/NAME; empty: the run's


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """The arithmetic of a stage that samples groups and trains on them."""

    steps: int
    prompts_per_step: int
    group_size: int
    minibatches: int = 1
    epochs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a stage asks of the policy in all, or of a served model in its place."""

    prompts: int  # 0: all that it has
    samples: int = 1  # of each
    max_tokens: int = 0  # of a sample; 0: the run's
    held_out: bool = True  # held-out prompts may be among them
    trained: bool = True  # and so may training prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """Result of a finished stage, stored in the run folder and read when the run is continued.

    Example: ``StageResult(steps=600, artifacts={"model": "outputs/run/stages/sft/model"}, metrics={"loss": 0.41})``
    """

    steps: int  # recorded by the stage
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)  # name -> path; those that `Stage.leaves` announces

    @property
    def model(self) -> str:
        """Folder of the model that later stages start from; empty: the stage made none."""
        return self.artifacts.get(MODEL, "")


class Stage(Part):
    """One step of a recipe. `name` is its key under ``stages``."""

    what = "a stage"
    made_with = ("name",)
    settings = StageSettings
    publishes: ClassVar[bool] = False  # its own weights to the engines, before they sample
    audited: ClassVar[bool] = False  # graders are asked about its samples, where the run has any
    # False: it trains a model beside the policy, may start from a reward model, and leaves the policy as it was.
    of_policy: ClassVar[bool] = True

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config)
        self.name = name

    @classmethod
    def roles(cls, config: Any) -> frozenset[str]:
        """Which actors it talks to, a subset of `ROLES`."""
        return ROLES

    @classmethod
    def leaves(cls, config: Any) -> tuple[str, ...]:
        """Names of the artifacts that later stages and parts may refer to; ``@STAGE`` alone can mean the first."""
        return ()

    @classmethod
    def batch(cls, config: Any) -> BatchShape | None:
        """The shape of its steps where it samples groups and trains on them, else None."""
        return None

    @classmethod
    def asks(cls, config: Any) -> Asked | None:
        """What it samples, evaluations on the way left out; None where it samples nothing."""
        shape = cls.batch(config)
        if shape is None:
            return None
        return Asked(prompts=shape.steps * shape.prompts_per_step, samples=shape.group_size)

    @classmethod
    def logs(cls, key: str, config: Any, run: Run) -> tuple[str, ...]:
        """Its metrics, what it is judged by first; ``name/*``: any below, ``*``: any other. Empty: nobody knows."""
        return ()

    @abstractmethod
    async def run(self, context: Any) -> StageResult:
        """Do the work, from its newest checkpoint if there is one. context: `raylign.recipes.stages.context`."""
