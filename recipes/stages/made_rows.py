"""Trajectories -> the rows that a stage writes; what they are made of is told in ``meta["generated"]``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raylign.config.schema import DataConfig
from raylign.data.prompts import TARGETS
from raylign.data.written import written_row
from raylign.errors import DataError
from raylign.loop.reward_metrics import SAMPLED
from raylign.recipes.stages.demonstrations import DIALOGUE
from raylign.recipes.stages.keep import Kept
from raylign.records import Absent, Group, Message, Missing, Prompt, Trajectory, Value

SAMPLE, TARGET, PROMPT = "sample", "target", "prompt"  # generated.from: what a row's target is


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMaker:
    """Makes the rows of one stage.

    model: whose samples they are, as provenance; data: the settings that the prompts were rendered with; ask: the
    prompt's column (of meta) whose text the row asks in place of the prompt that was sampled; empty: that prompt.
    """

    stage: str
    model: str
    data: DataConfig
    scored: bool  # False: there is no reward, and so no score
    ask: str = ""

    def rows(self, group: Group, kept: Kept, origin: str = SAMPLE) -> list[dict[str, Any]]:
        """The rows of one choice; several where a prompt that is kept as it is brings several targets.

        Raises DataError on a sample of several calls, and on a prompt that lacks the column `ask`.
        """
        prompt = self._asked(group.prompt)
        if kept.sample is None:
            return self._own(group.prompt, prompt, origin)
        made = self._made(group, kept.sample)
        row = written_row(prompt, _said(group, kept.sample), made, self._rendered)
        if kept.rejected is not None:
            pair = {"chosen": kept.sample, "rejected": kept.rejected}
            for name, index in pair.items():
                row[name] = [_message(_said(group, index))]
                row[f"score_{name}"] = group.scores[index]
        return [row]

    def trajectory_row(self, group: Group, index: int) -> dict[str, Any]:
        """The row of any trajectory: what each of its calls said, and a target where there is just one."""
        trajectory = group.trajectories[index]
        target = trajectory.text if len(trajectory.calls) == 1 else None
        row = written_row(self._asked(group.prompt), target, self._made(group, index), self._rendered)
        return {**row, "calls": [call.text for call in trajectory.calls]}

    def _own(self, sampled: Prompt, asked: Prompt, origin: str) -> list[dict[str, Any]]:
        made = {"stage": self.stage, "from": origin}
        targets = sampled.meta.get(TARGETS) or [sampled.meta.get("target")]
        dialogue = sampled.meta.get(DIALOGUE) or ()
        return [written_row(asked, target, made, self._rendered, dialogue) for target in targets]

    def _made(self, group: Group, index: int) -> dict[str, Any]:
        trajectory = group.trajectories[index]
        return {
            "stage": self.stage,
            "model": self.model,
            "from": SAMPLE,
            "sample": index,
            "visit": group.prompt.visit,
            "seed": trajectory.seed,
            "score": group.scores[index] if self.scored else None,
            "rewards": {
                name: reward.score if isinstance(reward, Value) else None
                for name, reward in trajectory.rewards.items()
                if not isinstance(reward, Absent)
            },
            "truncated": trajectory.truncated,
        }

    @property
    def _rendered(self) -> Mapping[str, str]:
        generated = bool(self.data.task) and not self.data.path and not self.data.generator
        return {
            "template": self.data.task_template if generated else self.data.template,
            "system": self.data.system,
        }

    def _asked(self, prompt: Prompt) -> Prompt:
        if not self.ask:
            return prompt
        text = prompt.meta.get(self.ask)
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"{prompt.place or prompt.id}: stages.{self.stage}.ask={self.ask} is no text of this row; it has "
                f"{', '.join(map(str, prompt.meta))}"
            )
        return replace(prompt, messages=({"role": "user", "content": text},))


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


def _message(text: str) -> Message:
    return {"role": "assistant", "content": text}
