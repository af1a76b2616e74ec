"""What a stage leaves for later ones, by name, and the settings that name it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MODEL = "model"  # a folder in Hugging Face format
REWARD_MODEL = "reward_model"  # a folder in Hugging Face format, of a model that gives a text one number
ROWS = "rows"  # a file that `data.path` could name
ARTIFACT = "artifact"  # metadata of a dataclass field that names files: what ``@STAGE`` alone means there


def artifact(name: str = "") -> Any:
    """A dataclass field that names files; empty by default.

    It takes a path, ``@STAGE/NAME`` for what an earlier stage of the run left under that name, or ``@STAGE`` for what
    it left as `name`; where `name` is empty, for the first that `Stage.leaves` lists. A part sees the path.

    Example::

        class Shifted(RewardFunction):
            @dataclass
            class Config:
                statistics: str = artifact("statistics")  # rewards.r.fn.statistics=@calibrate
    """
    return field(default="", metadata={ARTIFACT: name})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A setting that names an artifact. Example: ``Reference(key="stages.sft.data", value="@made", name="rows")``"""

    key: str
    value: str
    name: str  # see `artifact`

    @property
    def stage(self) -> str:
        """The name of the stage."""
        return self.value[1:].partition("/")[0]

    def among(self, left: Sequence[str]) -> str | None:
        """Which of the artifacts that the stage leaves is meant; None for one that it does not leave."""
        wanted = self.value.partition("/")[2] or self.name
        if not wanted:
            return left[0] if left else None
        return wanted if wanted in left else None
