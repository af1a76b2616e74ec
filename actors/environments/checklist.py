"""An examiner who asks a judge about the open items of a turn's checklist after every step.

One call per step and item. Not asked: items that are satisfied already (labels only ever add), items that could not
count yet (their dependencies do not hold), and items about calls or results at a step whose tools answered an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylign.actors.environments.dialogue import Dialogue, Examiner, Step
from raylign.actors.judge.asking import AsksJudge
from raylign.actors.judge.checklist import Checklist, Focus, Item, read_checklists
from raylign.actors.judge.client import Answer, shared_judge
from raylign.actors.judge.flips import JudgedTurn, Satisfied, holds, proceeds, states
from raylign.actors.judge.item_question import SCHEMA, item_question, read_answer
from raylign.errors import JudgeError, JudgeUnavailable, JudgeUnreadable
from raylign.records import Prompt, Trajectory

CHECKLISTS = "checklists"  # key of Prompt.meta: [variant][turn][item], see `read_checklists`
LABELS = "labels"  # flag of a step: one mapping item id -> verdict per variant; also the examiner's notes
ABOUT_TOOLS = (Focus.CALLS, Focus.TOOL)


class ChecklistExaminer(Examiner, AsksJudge):
    """`Examiner` over ``prompt.meta["checklists"]``. Flag ``labels``: per variant the verdicts of the step."""

    @dataclass
    class Config(AsksJudge.Config):
        """What labels count for."""

        satisfied: Satisfied = Satisfied.gated
        gate: bool = True  # off: the user's script goes on whatever the must-pass items say
        independent: bool = False  # every episode hears verdicts of its own; off: equal words get equal verdicts

    def __init__(self, config: Config) -> None:
        self.config = config

    async def look(self, dialogue: Dialogue) -> Mapping[str, Any]:
        """Labels of the last step. Raises the first JudgeError of its questions once all of them have ended."""
        lists = _of_turn(dialogue)
        notes = dialogue.notes.setdefault(LABELS, {})
        said: list[dict[str, bool]] = []
        asked: list[tuple[int, Item]] = []
        for variant, checklist in enumerate(lists):
            past = notes.setdefault(f"{variant}.{dialogue.turn}", [])
            labels = dict.fromkeys(self._open(checklist, past), False)
            said.append(labels)
            asked += [
                (variant, item) for item in checklist.items if item.id in labels and _judged(item, dialogue.steps)
            ]
        verdicts = await self._ask(dialogue, [item for _, item in asked])
        for (variant, item), verdict in zip(asked, verdicts, strict=True):
            said[variant][item.id] = verdict
        for variant, labels in enumerate(said):
            notes[f"{variant}.{dialogue.turn}"].append(labels)
        return {LABELS: tuple(said)}

    def proceeds(self, dialogue: Dialogue) -> bool:
        """Whether every must-pass item was satisfied at some step; more than half of the variants must object."""
        if not self.config.gate:
            return True
        votes = []
        for variant, checklist in enumerate(_of_turn(dialogue)):
            labels = checklist.table(dialogue.notes[LABELS][f"{variant}.{dialogue.turn}"])
            judged = JudgedTurn(labels=labels, dependencies=checklist.dependencies, weights=checklist.weights)
            votes.append(judged.proceeds(checklist.must_pass))
        return proceeds(votes)

    def _open(self, checklist: Checklist, past: Sequence[Mapping[str, bool]]) -> list[str]:
        """Items that this step's label could still change."""
        state = states(checklist.table(past), checklist.dependencies, self.config.satisfied)[-1]
        open_ = ~state
        if self.config.satisfied is Satisfied.gated:
            open_ &= holds(state, checklist.dependencies)
        return [name for name, wanted in zip(checklist.ids, open_, strict=True) if wanted]

    async def _ask(self, dialogue: Dialogue, items: Sequence[Item]) -> list[bool]:
        judge = shared_judge(self.config.judge)
        before = [
            {"turn": number, "user": turn.user, "steps": [step_view(i, step) for i, step in enumerate(turn.steps)]}
            for number, turn in enumerate(dialogue.turns[:-1])
        ]
        present: list[Any] = [{"turn": dialogue.turn, "user": dialogue.turns[-1].user}]
        present += [step_view(number, step) for number, step in enumerate(dialogue.steps)]
        salt = str(dialogue.seed) if self.config.independent else ""
        calls = (judge.ask(item_question(item, before, present), read_answer, SCHEMA, salt) for item in items)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        verdicts, failures = [], []
        for outcome in outcomes:
            if isinstance(outcome, Answer):
                dialogue.counts.add(outcome.counts)
                verdicts.append(outcome.value)
            elif isinstance(outcome, JudgeError):
                dialogue.counts.asked += 1
                dialogue.counts.unavailable += isinstance(outcome, JudgeUnavailable)
                dialogue.counts.unreadable += isinstance(outcome, JudgeUnreadable)
                failures.append(outcome)
            else:
                raise outcome
        if failures:
            raise failures[0]
        return verdicts


def judged_turns(prompt: Prompt, trajectory: Trajectory) -> tuple[tuple[JudgedTurn, ...], ...]:
    """[variant][reached turn] the judge's labels of a finished trajectory, from the flags of its calls.

    Turns beyond the annotated ones are left out. Raises ValueError when a call carries no labels.
    """
    rows: dict[int, list[tuple[dict[str, bool], ...]]] = {}
    for number, call in enumerate(trajectory.calls):
        if LABELS not in call.flags:
            raise ValueError(f"call {number} of {trajectory.prompt_key} carries no labels; set environment.fn.examiner")
        rows.setdefault(int(call.flags["turn"]), []).append(call.flags[LABELS])
    return tuple(
        tuple(
            JudgedTurn(
                labels=checklist.table([row[variant] for row in rows[turn]]),
                dependencies=checklist.dependencies,
                weights=checklist.weights,
            )
            for turn, checklist in enumerate(turns)
            if turn in rows
        )
        for variant, turns in enumerate(checklists_of(prompt))
    )


def checklists_of(prompt: Prompt) -> tuple[tuple[Checklist, ...], ...]:
    """[variant][turn] the prompt's checklists. Raises DataError on an annotation that does not follow the format."""
    return read_checklists(prompt.meta[CHECKLISTS], f"prompt {prompt.id}")


def step_view(number: int, step: Step) -> dict[str, Any]:
    """A step as the judge sees it: thinking, visible reply, calls and results apart."""
    view: dict[str, Any] = {"step": number, "thinking": step.said.thinking, "visible_reply": step.said.reply}
    view["tool_calls"] = [{"name": call.name, "arguments": dict(call.arguments)} for call in step.said.good]
    if step.said.bad:
        view["malformed_calls"] = [call.text for call in step.said.bad]
    view["tool_results"] = [answer.text for answer in step.answers]
    return view


def _of_turn(dialogue: Dialogue) -> list[Checklist]:
    """The checklist of the present turn in every variant; none beyond the annotated turns."""
    return [turns[dialogue.turn] for turns in checklists_of(dialogue.prompt) if dialogue.turn < len(turns)]


def _judged(item: Item, steps: Sequence[Step]) -> bool:
    """Whether the judge is asked about the item: at a failed step items about calls and results count as no."""
    return not (steps[-1].failed and item.focus in ABOUT_TOOLS)
