"""Trajectories -> the rows that a stage writes; what they are made of is told in ``meta["generated"]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raylign.chat.messages import ASSISTANT
from raylign.chat.thoughts import answer_text
from raylign.data.rendered import TARGET, TARGETS, rows_of
from raylign.data.rows import DataRow
from raylign.errors import DataError
from raylign.loop.reward_metrics import SAMPLED as DRAWN
from raylign.recipes.stages.demonstrations import DIALOGUE, SAMPLED
from raylign.recipes.stages.keep import Kept
from raylign.records import Absent, Call, Group, Message, Missing, Prompt, Value

GENERATED = "generated"  # key of a row's meta


@dataclass(frozen=True, slots=True, kw_only=True)
class RowWriter:
    """Makes the rows of one stage.

    model: whose samples they are; scored: whether they have scores; asked: by id, the prompts as they are without the
    stage's view, which is what the rows ask; ask: a column of theirs (of meta) whose text the rows ask instead.

    A row that asks as its sample was asked holds all that was said, thoughts included. One that asks otherwise holds
    the answer alone: its thoughts speak of what only the view showed, such as the choice that a teacher was told.
    """

    stage: str
    model: str
    scored: bool
    asked: Mapping[str, Prompt] = field(default_factory=dict)
    ask: str = ""

    def rows(self, group: Group, kept: Kept) -> list[DataRow]:
        """The rows of one choice; several where a prompt that is kept as it is brings several targets.

        An episode is a demonstration: what the policy said, with its ids, and what the environment answered between.
        Raises DataError on a pair of episodes, on several calls without observations, and on a prompt that lacks the
        column `ask`.
        """
        if kept.row is not None:
            return [self._own(group, kept, kept.row)]
        if kept.sample is None:
            made = {"stage": self.stage, "from": "prompt"}
            return [replace(row, meta={**row.meta, GENERATED: made}) for row in rows_of(self._asked(group.prompt))]
        pair: dict[str, Any] = {}
        if kept.rejected is not None:
            for name, index in (("chosen", kept.sample), ("rejected", kept.rejected)):
                pair |= {name: self._said(group, index), f"{name}_score": group.scores[index]}
        calls = group.trajectories[kept.sample].calls
        if kept.rejected is None and _lived(calls):
            return [self._row(group, kept.sample, None, {DIALOGUE: _dialogue(group, calls)})]
        return [self._row(group, kept.sample, self._said(group, kept.sample), pair)]

    def trajectory_row(self, group: Group, index: int) -> DataRow:
        """The row of any trajectory: what each of its calls said, and a target where there is just one."""
        calls = [call.text for call in group.trajectories[index].calls]
        row = self._row(group, index, self._said(group, index) if len(calls) == 1 else None, {})
        return replace(row, meta={**row.meta, GENERATED: {**row.meta[GENERATED], "calls": calls}})

    def _said(self, group: Group, index: int) -> str:
        """What a row gives as said. Raises DataError on several calls."""
        trajectory = group.trajectories[index]
        if len(trajectory.calls) != 1:
            raise _no_target(group, len(trajectory.calls))
        same = self._asked(group.prompt).messages == group.prompt.messages
        return trajectory.calls[0].text if same else answer_text(group.prompt, trajectory)

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
    """The samples that may become rows: drawn, where there are rewards with a score, and not cut off.

    One that says something and answers nothing, its thought not closed, is cut off whatever it stopped at.
    """
    return [
        index
        for index, trajectory in enumerate(group.trajectories)
        if not isinstance(trajectory.rewards.get(DRAWN), Missing)
        and (not scored or group.scores[index] is not None)
        and (truncated or not (trajectory.truncated or (trajectory.text and not answer_text(group.prompt, trajectory))))
    ]


def _lived(calls: Sequence[Call]) -> bool:
    """Whether an environment answered."""
    return any(call.observed or call.flags or call.reward is not None for call in calls)


def _dialogue(group: Group, calls: Sequence[Call]) -> list[Message]:
    """What was said and observed, from the first call to the last; ids where an engine sampled them.

    Raises DataError on calls that are not to be learned from, of several roles, or that nothing stands between.
    """
    if len({call.role for call in calls}) > 1 or not all(call.learn for call in calls):
        raise _no_target(group, len(calls))
    messages: list[Message] = []
    for number, call in enumerate(calls):
        if number and not calls[number - 1].observed:
            raise _no_target(group, len(calls))
        messages += calls[number - 1].observed if number else ()
        sampled = {SAMPLED: call.token_ids.tolist()} if len(call.token_ids) else {}
        messages.append({"role": ASSISTANT, "content": call.text, **sampled})
    return messages


def _no_target(group: Group, calls: int) -> DataError:
    return DataError(
        f"prompt {group.prompt.key}: a sample of {calls} calls is no single target; fix: a strategy of one call "
        "(raylign.actors.rollout.strategies.SingleTurn), episodes in an environment and no pairs of them, or "
        "raylign.recipes.stages.collect.Collect"
    )
