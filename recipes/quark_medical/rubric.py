"""Expert knowledge: a judge grades the items of a prompt's rubric, and their points make one score.

    V = sum_{g positive} w_g S_g - w_pit S_pit        S_g: sum of grade x weight, grades 0 to 2
    score = (V - V_min) / (V_max - V_min)             over what is attainable

- truncation: Important and Highlight count 0 where S_essen < rho_e M_essen or S_pit > rho_p M_pit
- saturation: S_{imp,hl} = min(sum over tags of min(points of the tag, L), 2); an item without one is its own
- activation: samples of a prompt whose scores are less than L_act apart count the same
- scaling: above the mean score of a panel of strong models, S_mean + W_scale (S - S_mean)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np

from raylign.chat.thoughts import answer_text
from raylign.contracts import Scope
from raylign.data.questions import conversation_of
from raylign.errors import DataError
from raylign.recipes.quark_medical.asking import JudgedReward, Question, object_schema
from raylign.recipes.quark_medical.diagnosis import LOST
from raylign.records import Prompt, Trajectory, Value

RUBRIC = "rubric"  # the prompt's items, in its meta
PANEL = "panel_mean"  # mean score of strong models on the prompt, in its meta, where it was measured
FULL = 2  # the best grade
INSTRUCTION = """You grade an answer to a medical question by the items of a rubric. For each item give a grade:
0 not met, 1 partly met, 2 fully met; for an item of the group pitfall 0 no error, 1 a minor one, 2 a serious one.
Reply with JSON only: {"grades": {"<id>": <grade>, ...}}, every item once."""


class ItemGroup(StrEnum):
    """Of rubric items."""

    essential = "essential"
    important = "important"
    highlight = "highlight"
    pitfall = "pitfall"


TRUNCATED = (ItemGroup.important, ItemGroup.highlight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item. Example: ``Item(id="dose", group=ItemGroup.essential, text="At most 4 g a day", weight=2.0)``"""

    id: str
    group: ItemGroup
    text: str
    weight: float
    tag: str = ""  # the capability that it shows; saturation counts by it; empty: its own


@dataclass
class Scoring:
    """How grades become a score. Weights are the report's, the thresholds [inferred]. saturation=0, activation=0,
    rho_essential=0 and rho_pitfall=1 turn their mechanisms off.
    """

    essential: float = 2.0
    important: float = 1.0
    highlight: float = 1.0
    pitfall: float = 2.0
    rho_essential: float = 0.5  # of the attainable points, below which the lesser groups count nothing
    rho_pitfall: float = 0.5  # of the attainable points, above which they do not either
    truncation: bool = True
    saturation: float = 1.0  # L
    activation: float = 0.05  # L_act
    scaling: float = 2.0  # W_scale; 1: off

    def __post_init__(self) -> None:
        names = ("essential", "important", "highlight", "pitfall", "saturation", "activation")
        if wrong := [name for name in names if getattr(self, name) < 0]:
            raise ValueError(f"{wrong[0]}={getattr(self, wrong[0])}: set it to 0 or more")
        if not (0 <= self.rho_essential <= 1 and 0 <= self.rho_pitfall <= 1):
            raise ValueError(f"rho_essential={self.rho_essential}, rho_pitfall={self.rho_pitfall} are shares")
        if self.scaling <= 0:
            raise ValueError(f"scaling={self.scaling}: set it above 0; 1 turns it off")

    def weight(self, group: ItemGroup) -> float:
        """w_g."""
        return {
            ItemGroup.essential: self.essential,
            ItemGroup.important: self.important,
            ItemGroup.highlight: self.highlight,
            ItemGroup.pitfall: self.pitfall,
        }[group]


def rubric_of(prompt: Prompt) -> list[Item]:
    """The items of a prompt. Raises DataError on a rubric that is none, naming place, item and field."""
    place, rows = prompt.place or prompt.id, prompt.meta.get(RUBRIC)
    if not isinstance(rows, list | tuple) or not rows:
        raise DataError(f"{place}: no rubric in the row's column {RUBRIC!r}; fix: give each row a list of items")
    items = [_item(row, f"{place}: {RUBRIC}[{number}]") for number, row in enumerate(rows)]
    if len({item.id for item in items}) < len(items):
        raise DataError(f"{place}: two items of the rubric have the same id; fix: give each its own")
    return items


def _item(row: Any, place: str) -> Item:
    if not isinstance(row, Mapping):
        raise DataError(f"{place} is no object, but {str(row)[:60]!r}")
    for name in ("id", "text"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise DataError(f"{place}.{name} is no text, but {str(row.get(name))[:60]!r}")
    group, weight, tag = row.get("group"), row.get("weight"), row.get("tag")
    weight = 1.0 if weight is None else weight
    if group not in list(ItemGroup):
        raise DataError(f"{place}.group is {str(group)[:60]!r}; fix: one of {', '.join(ItemGroup)}")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not (0 < weight < float("inf")):
        raise DataError(f"{place}.weight is {str(weight)[:60]!r}; fix: a number above 0, for pitfalls too")
    if tag is not None and not isinstance(tag, str):
        raise DataError(f"{place}.tag is no text, but {str(tag)[:60]!r}")
    tag = (tag or "").strip()
    return Item(id=row["id"], group=ItemGroup(group), text=row["text"], weight=float(weight), tag=tag)


def read_grades(items: Sequence[Item], reply: Any) -> dict[str, int]:
    """Grades by item from the judge's JSON. Raises ValueError unless every item has one, and nothing else has."""
    grades = reply.get("grades") if isinstance(reply, Mapping) else None
    if not isinstance(grades, Mapping) or set(grades) != {item.id for item in items}:
        raise ValueError("the reply does not grade every item of the rubric once")
    if wrong := [name for name, grade in grades.items() if type(grade) is not int or not 0 <= grade <= FULL]:
        raise ValueError(f"the grade of {wrong[0]} is {grades[wrong[0]]!r}, not 0, 1 or 2")
    return dict(grades)


def rubric_score(items: Sequence[Item], grades: Mapping[str, int], scoring: Scoring) -> float:
    """The score of one answer, between 0 and 1, before activation and scaling.

    Raises ValueError where no positive item has any weight: then nothing is attainable.
    """
    most = _value(items, {item.id: FULL * (item.group is not ItemGroup.pitfall) for item in items}, scoring)
    least = _value(items, {item.id: FULL * (item.group is ItemGroup.pitfall) for item in items}, scoring)
    if most <= 0:
        raise ValueError("the rubric has no positive item with a weight, so that no points can be had")
    return (_value(items, grades, scoring) - least) / (most - least)


def _value(items: Sequence[Item], grades: Mapping[str, int], scoring: Scoring) -> float:
    """V."""
    points = {group: _points(items, grades, group, scoring) for group in ItemGroup}
    if scoring.truncation and _truncates(items, grades, scoring):
        points |= dict.fromkeys(TRUNCATED, 0.0)
    signs = {group: -1.0 if group is ItemGroup.pitfall else 1.0 for group in ItemGroup}
    return sum(signs[group] * scoring.weight(group) * points[group] for group in ItemGroup)


def _points(items: Sequence[Item], grades: Mapping[str, int], group: ItemGroup, scoring: Scoring) -> float:
    """S_g, saturated where that is on."""
    by_tag: dict[tuple[str, str], float] = {}
    for item in items:
        if item.group is group:
            tag = (item.tag, "" if item.tag else item.id)
            by_tag[tag] = by_tag.get(tag, 0.0) + grades[item.id] * item.weight
    if group not in TRUNCATED or not scoring.saturation:
        return sum(by_tag.values())
    return min(sum(min(points, scoring.saturation) for points in by_tag.values()), 2.0)


def _truncates(items: Sequence[Item], grades: Mapping[str, int], scoring: Scoring) -> bool:
    def sums(group: ItemGroup) -> tuple[float, float]:
        own = [item for item in items if item.group is group]
        return sum(grades[item.id] * item.weight for item in own), sum(FULL * item.weight for item in own)

    (essential, of_essential), (pitfall, of_pitfall) = sums(ItemGroup.essential), sums(ItemGroup.pitfall)
    return essential < scoring.rho_essential * of_essential or pitfall > scoring.rho_pitfall * of_pitfall


def activated(scores: Sequence[float], least: float) -> list[float]:
    """Scores that are less than `least` apart from the lowest of their level count as the level's mean.

    Levels begin with the lowest score: being near is not transitive, and a chain of near ones may not become one level.
    """
    order = np.argsort(scores, kind="stable")
    levels: list[list[int]] = []
    for index in order:
        if levels and scores[index] - scores[levels[-1][0]] < least:
            levels[-1].append(int(index))
        else:
            levels.append([int(index)])
    result = list(map(float, scores))
    for level in levels:
        for index in level if len(level) > 1 else ():
            result[index] = float(np.mean([scores[other] for other in level]))
    return result


def scaled(score: float, panel: float | None, factor: float) -> float:
    """What lies above the panel's mean counts `factor` times."""
    return score if panel is None or score < panel else panel + factor * (score - panel)


class Rubric(JudgedReward):
    """The rubric's score of every sample of a prompt; the prompt's column ``rubric`` holds the items.

    A judge without a readable answer after all tries leaves the group without this reward. Details: ``score`` before
    activation and scaling, ``grades``, and ``lost``: positive items that are not fully met, and pitfalls that are.
    """

    scope = Scope.GROUP

    @dataclass
    class Config(JudgedReward.Config):
        """Who grades, and how grades become a score."""

        scoring: Scoring = field(default_factory=Scoring)

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value per sample. Raises DataError without a rubric, ValueError where no points can be had."""
        items, scoring = rubric_of(prompt), self.config.scoring
        rubric_score(items, dict.fromkeys((item.id for item in items), 0), scoring)  # before anybody is asked
        questions = [_question(prompt, items, answer_text(prompt, trajectory)) for trajectory in trajectories]
        grades = self.answers(questions)
        plain = [rubric_score(items, given, scoring) for given in grades]
        panel = _panel(prompt)
        final = [scaled(score, panel, scoring.scaling) for score in activated(plain, scoring.activation)]
        return [
            Value(score=score, details={"score": before, "grades": given, LOST: _lost(items, given)})
            for score, before, given in zip(final, plain, grades, strict=True)
        ]


def _question(prompt: Prompt, items: Sequence[Item], answer: str) -> Question:
    shown = [{"id": item.id, "group": item.group.value, "text": item.text} for item in items]
    grade = {"type": "integer", "enum": [0, 1, 2]}
    return Question(
        instruction=INSTRUCTION,
        material={"question": conversation_of(prompt), "answer": answer, "items": shown},
        schema=object_schema(grades=object_schema(**{item.id: grade for item in items})),
        read=partial(read_grades, items),
    )


def _panel(prompt: Prompt) -> float | None:
    panel = prompt.meta.get(PANEL)
    if panel is not None and (isinstance(panel, bool) or not isinstance(panel, int | float) or not 0 <= panel <= 1):
        place = prompt.place or prompt.id
        raise DataError(f"{place}: {PANEL} is {str(panel)[:60]!r}; fix: a mean score between 0 and 1, or leave it out")
    return panel


def _lost(items: Sequence[Item], grades: Mapping[str, int]) -> list[str]:
    wrong = {ItemGroup.pitfall: lambda grade: grade > 0}
    return [item.id for item in items if wrong.get(item.group, lambda grade: grade < FULL)(grades[item.id])]
