"""What parts have in common that cannot work without a judge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raylign.actors.judge.client import judge_problems
from raylign.config.resolve import Run
from raylign.config.schema import Node
from raylign.contracts import Part
from raylign.errors import Problem


class AsksJudge(Part):
    """A part whose settings name its judge, which must be one.

    Example::

        class Polite(RewardFunction, AsksJudge):
            @dataclass
            class Config(AsksJudge.Config):
                strict: bool = False
    """

    @dataclass
    class Config:
        """judge: fields of `raylign.actors.judge.client.Judge.Config`."""

        judge: Node = field(default_factory=dict)

        def __post_init__(self) -> None:
            if not self.judge:
                raise ValueError("judge is empty: name who judges, e.g. judge.model={_target_: ...Served, name: judge}")

    @classmethod
    def problems(cls, key: str, config: Any, run: Run) -> list[Problem]:
        """What is wrong with the judge."""
        return judge_problems(f"{key}.judge", config.judge)
