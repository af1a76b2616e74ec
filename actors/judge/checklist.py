"""Checklists in CM2's annotation format (arXiv:2602.12268): yes/no items with evidence, weights and dependencies.

An annotation that does not follow the format is refused with the item and the field, as a wrong weight or a dangling
dependency would otherwise turn into a wrong reward without a sound.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raylign.errors import DataError

Float64s = NDArray[np.float64]
Flags = NDArray[np.bool_]
WEIGHT_TOLERANCE = 1e-6


class Focus(StrEnum):
    """The part of a conversation that an item looks at."""

    USER = "user.content"
    CALLS = "assistant.tool_calls"
    THINKING = "assistant.content.thinking"
    REPLY = "assistant.content.user_visible_reply"
    TOOL = "tool.content"


FIELDS = (
    "id",
    "evidence",
    "focus_on",
    "question",
    "pass_condition",
    "failure_examples",
    "required_for_next_turn",
    "dependence",
    "weight",
)
EVIDENCE_FIELDS = ("turn", "step", "source", "snippet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Where the reference dialogue shows what the item asks for."""

    turn: int
    step: int
    source: str
    snippet: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One yes/no question about a turn.

    Example: ``Item(id="c1", focus=Focus.TOOL, question="Was the price found?", weight=.3, ...)``
    """

    id: str
    evidence: tuple[Evidence, ...]
    focus: Focus
    question: str
    pass_condition: str
    failure_examples: tuple[str, ...]
    must_pass: bool  # "required_for_next_turn": without it the next user message would make no sense
    depends_on: tuple[str, ...]  # ids of items of the same turn, each about what a tool returned
    weight: float


@dataclass(frozen=True, slots=True)
class Checklist:
    """The items of one turn. Weights add up to 1."""

    items: tuple[Item, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the items, in their order."""
        return tuple(item.id for item in self.items)

    @property
    def weights(self) -> Float64s:
        """[C]"""
        return np.array([item.weight for item in self.items], np.float64)

    @property
    def dependencies(self) -> Flags:
        """[C, C] entry (c, d) is true where item c depends on item d."""
        return np.array([[other in item.depends_on for other in self.ids] for item in self.items], bool).reshape(
            len(self.items), len(self.items)
        )

    @property
    def must_pass(self) -> Flags:
        """[C]"""
        return np.array([item.must_pass for item in self.items], bool)

    def table(self, labels: Sequence[Mapping[str, bool]]) -> Flags:
        """[S, C] one row per step from labels by item id; an item that was not judged at a step is false there."""
        return np.array([[bool(row.get(name)) for name in self.ids] for row in labels], bool).reshape(
            len(labels), len(self.items)
        )


def read_checklists(annotation: Any, place: str) -> tuple[tuple[Checklist, ...], ...]:
    """[variant][turn] checklists of a dialogue from ``checklist_list``: variants of turns of items, lists or JSON text.

    Every variant must cover the same turns. Raises DataError with place, item and field.
    """
    raw = json.loads(annotation) if isinstance(annotation, str) else annotation
    variants = _sequence(raw, place, "checklist_list")
    if not variants:
        raise DataError(f"{place}: checklist_list is empty; fix: annotate the dialogue, or drop it")
    checklists = tuple(
        tuple(
            read_checklist(items, f"{place}, variant {number}, turn {turn}")
            for turn, items in enumerate(_sequence(turns, f"{place}, variant {number}", "turns"))
        )
        for number, turns in enumerate(variants)
    )
    lengths = sorted({len(turns) for turns in checklists})
    if len(lengths) != 1 or lengths[0] == 0:
        raise DataError(f"{place}: the variants of the checklist cover {lengths} turns; all must cover the same, not 0")
    return checklists


def read_checklist(raw: Any, place: str) -> Checklist:
    """The checklist of one turn. Raises DataError with place, item and field."""
    items = tuple(_item(entry, f"{place}, item {index}") for index, entry in enumerate(_sequence(raw, place, "items")))
    if not items:
        raise DataError(f"{place}: has no items")
    by_id = {item.id: item for item in items}
    if len(by_id) != len(items):
        twice = sorted({item.id for item in items if sum(other.id == item.id for other in items) > 1})
        raise DataError(f"{place}: field id: {', '.join(twice)} stands on several items")
    for item in items:
        for name in item.depends_on:
            where = f"{place}, item {item.id}: field dependence"
            if name not in by_id:
                raise DataError(f"{where}: {name!r} is no item of this turn; there are {', '.join(by_id)}")
            if by_id[name].focus is not Focus.TOOL:
                raise DataError(
                    f"{where}: {name!r} has focus {by_id[name].focus}; only items about {Focus.TOOL} may be depended on"
                )
            if name == item.id:
                raise DataError(f"{where}: the item depends on itself")
    total = sum(item.weight for item in items)
    if abs(total - 1) > WEIGHT_TOLERANCE:
        raise DataError(f"{place}: field weight: the items' weights add up to {total:.6g}, expected 1")
    _refuse_cycles(items, place)
    return Checklist(items)


def _item(raw: Any, place: str) -> Item:
    if not isinstance(raw, Mapping):
        raise DataError(f"{place}: is a {type(raw).__name__}, expected an object with the fields {', '.join(FIELDS)}")
    _exact_fields(raw, FIELDS, place)
    if not isinstance(raw["id"], str | int) or str(raw["id"]) == "":
        raise DataError(f"{place}: field id: {raw['id']!r} is no name")
    place = f"{place} ({raw['id']})"
    if raw["focus_on"] not in tuple(Focus):
        raise DataError(f"{place}: field focus_on: {raw['focus_on']!r} is none of {', '.join(Focus)}")
    for name in ("question", "pass_condition"):
        if not isinstance(raw[name], str) or not raw[name].strip():
            raise DataError(f"{place}: field {name}: {raw[name]!r} is no text")
    weight, required = raw["weight"], raw["required_for_next_turn"]
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1:
        raise DataError(f"{place}: field weight: {weight!r} is no number above 0 and up to 1")
    if not isinstance(required, bool):
        raise DataError(f"{place}: field required_for_next_turn: {required!r} is neither true nor false")
    return Item(
        id=str(raw["id"]),
        evidence=tuple(_evidence(entry, place) for entry in _sequence(raw["evidence"], place, "evidence")),
        focus=Focus(raw["focus_on"]),
        question=raw["question"],
        pass_condition=raw["pass_condition"],
        failure_examples=_texts(raw["failure_examples"], place, "failure_examples"),
        must_pass=required,
        depends_on=_texts(raw["dependence"], place, "dependence"),
        weight=float(weight),
    )


def _evidence(raw: Any, place: str) -> Evidence:
    if not isinstance(raw, Mapping):
        raise DataError(f"{place}: field evidence: {raw!r} is no object with {', '.join(EVIDENCE_FIELDS)}")
    _exact_fields(raw, EVIDENCE_FIELDS, f"{place}, evidence")
    for name in ("turn", "step"):
        if isinstance(raw[name], bool) or not isinstance(raw[name], int):
            raise DataError(f"{place}: field evidence.{name}: {raw[name]!r} is no whole number")
    return Evidence(turn=raw["turn"], step=raw["step"], source=str(raw["source"]), snippet=str(raw["snippet"]))


def _exact_fields(raw: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    missing = [name for name in known if name not in raw]
    extra = [name for name in raw if name not in known]
    if missing or extra:
        what = [f"without {', '.join(missing)}"] if missing else []
        what += [f"unknown: {', '.join(map(str, extra))}"] if extra else []
        raise DataError(f"{place}: fields {'; '.join(what)}")


def _sequence(raw: Any, place: str, name: str) -> Sequence[Any]:
    if not isinstance(raw, list | tuple):
        raise DataError(f"{place}: field {name}: is a {type(raw).__name__}, expected a list")
    return raw


def _texts(raw: Any, place: str, name: str) -> tuple[str, ...]:
    entries = _sequence(raw, place, name)
    if not all(isinstance(entry, str | int) for entry in entries):
        raise DataError(f"{place}: field {name}: {raw!r} holds something other than texts")
    return tuple(str(entry) for entry in entries)


def _refuse_cycles(items: Sequence[Item], place: str) -> None:
    left = {item.id: set(item.depends_on) for item in items}
    while left:
        free = [name for name, needs in left.items() if not needs & left.keys()]
        if not free:
            raise DataError(f"{place}: field dependence: {', '.join(left)} depend on one another in a circle")
        for name in free:
            del left[name]
