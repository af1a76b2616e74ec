"""Trajectories -> the rows that a stage writes; what they are made of is told in ``meta["generated"]``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from raylign.data.rendered import TARGET, TARGETS, rows_of
from raylign.data.rows import DataRow
from raylign.errors import DataError
from raylign.loop.reward_metrics import SAMPLED
from raylign.recipes.stages.demonstrations import DIALOGUE
from raylign.recipes.stages.keep import Kept
from raylign.records import Absent, Group, Missing, Prompt, Value

GENERATED = "generated"  # key of a row's meta


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMaker:
    """Makes the rows of one stage.

    model: whose samples they are; scored: whether they have scores; asked: by id, the prompts as they are without the
    stage's view, which is what the rows ask; ask: a column of theirs (of meta) whose text the rows ask instead.
    """

    stage: str
    model: str
    scored: bool
    asked: Mapping[str, Prompt] = field(default_factory=dict)
    ask: str = ""

    def rows(self, group: Group, kept: Kept) -> list[DataRow]:
        """The rows of one choice; several where a prompt that is kept as it is brings several targets.

        Raises DataError on a sample of several calls, and on a prompt that lacks the column `ask`.
        """
        if kept.row is not None:
            return [self._own(group, kept, kept.row)]
        if kept.sample is None:
            made = {"stage": self.stage, "from": "prompt"}
            return [replace(row, meta={**row.meta, GENERATED: made}) for row in rows_of(self._asked(group.prompt))]
        pair: dict[str, Any] = {}
        if kept.rejected is not None:
            for name, index in (("chosen", kept.sample), ("rejected", kept.rejected)):
                pair |= {name: _said(group, index), f"{name}_score": group.scores[index]}
        return [self._row(group, kept.sample, _said(group, kept.sample), pair)]

    def trajectory_row(self, group: Group, index: int) -> DataRow:
        """The row of any trajectory: what each of its calls said, and a target where there is just one."""
        calls = [call.text for call in group.trajectories[index].calls]
        row = self._row(group, index, calls[0] if len(calls) == 1 else None, {})
        return replace(row, meta={**row.meta, GENERATED: {**row.meta[GENERATED], "calls": calls}})

    def _own(self, group: Group, kept: Kept, row: DataRow) -> DataRow:
        """The row that a rule made."""
        if kept.rejected is not None:
            raise DataError(
                f"prompt {group.prompt.key}: stages.{self.stage}.keep makes a row of its own and names a rejected "
                "sample; fix: put `chosen` and `rejected` into the row's meta"
            )
        prompt = {"stage": self.stage, "from": "prompt", "prompt": group.prompt.key}
        made = prompt if kept.sample is None else self._made(group, kept.sample)
        return replace(row, meta={**row.meta, GENERATED: made})

    def _row(self, group: Group, index: int, target: str | None, pair: Mapping[str, Any]) -> DataRow:
        row = rows_of(self._asked(group.prompt))[0]
        meta = {name: value for name, value in row.meta.items() if name != DIALOGUE}  # else that is imitated
        return replace(row, target=target, meta={**meta, **pair, GENERATED: self._made(group, index)})

    def _made(self, group: Group, index: int) -> dict[str, Any]:
        trajectory = group.trajectories[index]
        return {
            "stage": self.stage,
            "from": "sample",
            "model": self.model,
            "prompt": group.prompt.key,
            "sample": index,
            "seed": trajectory.seed,
            "score": group.scores[index] if self.scored else None,
            "rewards": {
                name: reward.score if isinstance(reward, Value) else None
                for name, reward in trajectory.rewards.items()
                if not isinstance(reward, Absent)
            },
            "truncated": trajectory.truncated,
        }

    def _asked(self, sampled: Prompt) -> Prompt:
        prompt = self.asked.get(sampled.id, sampled)
        if not self.ask:
            return prompt
        text = prompt.meta.get(self.ask)
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"{prompt.place or prompt.id}: stages.{self.stage}.ask={self.ask} is no text of this row; it has "
                f"{', '.join(map(str, prompt.meta))}"
            )
        return replace(prompt, messages=({"role": "user", "content": text},))


def has_target(prompt: Prompt) -> bool:
    """Whether a prompt brings anything to imitate."""
    return any(prompt.meta.get(name) is not None for name in (TARGET, TARGETS, DIALOGUE))


def usable(group: Group, scored: bool, truncated: bool) -> list[int]:
    """The samples that may become rows: drawn, where there are rewards with a score, and not cut off."""
    return [
        index
        for index, trajectory in enumerate(group.trajectories)
        if not isinstance(trajectory.rewards.get(SAMPLED), Missing)
        and (not scored or group.scores[index] is not None)
        and (truncated or not trajectory.truncated)
    ]


def _said(group: Group, index: int) -> str:
    calls = group.trajectories[index].calls
    if len(calls) != 1:
        raise DataError(
            f"prompt {group.prompt.key}: a sample of {len(calls)} calls is no single target; fix: a strategy of one "
            "call (raylign.actors.rollout.strategies.SingleTurn), or raylign.recipes.stages.collect.Collect"
        )
    return calls[0].text
