"""The annotation format: what is read, and that every fault is named by item and field."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from raylign.actors.judge.checklist import Focus, read_checklist, read_checklists
from raylign.errors import DataError


def item(name: str = "c0", **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": name,
        "evidence": [{"turn": 0, "step": 0, "source": "tool.content", "snippet": "21 degrees"}],
        "focus_on": "tool.content",
        "question": "Was the temperature obtained?",
        "pass_condition": "A tool result shows the temperature.",
        "failure_examples": ["The result is an error."],
        "required_for_next_turn": True,
        "dependence": [],
        "weight": 0.5,
    }
    return fields | changes


TURN = [item("c0"), item("c1", dependence=["c0"], focus_on="assistant.content.user_visible_reply")]


def test_a_turn_is_read() -> None:
    checklist = read_checklist(TURN, "row 1")
    assert checklist.ids == ("c0", "c1")
    assert checklist.items[1].focus is Focus.REPLY
    np.testing.assert_array_equal(checklist.dependencies, [[False, False], [True, False]])
    np.testing.assert_array_equal(checklist.table([{"c1": True}, {"c0": True, "c1": False}]), [[0, 1], [1, 0]])


def test_variants_of_turns_as_lists_or_json() -> None:
    variants = [[TURN, TURN], [TURN, TURN]]
    assert read_checklists(json.dumps(variants), "row") == read_checklists(variants, "row")
    with pytest.raises(DataError, match="cover"):
        read_checklists([[TURN], [TURN, TURN]], "row")
    with pytest.raises(DataError, match="empty"):
        read_checklists([], "row")


FAULTS = [
    ({"weight": 0.4}, "field weight: the items' weights add up to 0.9"),
    ({"weight": -0.5}, r"item 1 \(c1\): field weight: -0.5"),
    ({"weight": True}, "field weight"),
    ({"dependence": ["c7"]}, r"item c1: field dependence: 'c7' is no item"),
    ({"dependence": "c0"}, r"item 1 \(c1\): field dependence: is a str"),
    ({"focus_on": "the.weather"}, r"item 1 \(c1\): field focus_on: 'the.weather'"),
    ({"question": " "}, "field question"),
    ({"required_for_next_turn": "yes"}, "field required_for_next_turn"),
    ({"id": "c0"}, "field id: c0 stands on several"),
    ({"extra": 1}, "unknown: extra"),
    ({"evidence": [{"turn": 0}]}, "without step, source, snippet"),
    ({"evidence": [{"turn": "0", "step": 0, "source": "", "snippet": ""}]}, "field evidence.turn"),
    ({"failure_examples": [1.5]}, "field failure_examples"),
]


@pytest.mark.parametrize(("changes", "named"), FAULTS)
def test_every_fault_is_named_by_item_and_field(changes: dict[str, Any], named: str) -> None:
    turn = copy.deepcopy(TURN)
    turn[1] |= changes
    with pytest.raises(DataError, match=named) as error:
        read_checklist(turn, "row 3, turn 2")
    assert str(error.value).startswith("row 3, turn 2")


def test_a_missing_field_is_named() -> None:
    for name in item():
        turn = copy.deepcopy(TURN)
        del turn[0][name]
        with pytest.raises(DataError, match=rf"item 0: fields without {name}"):
            read_checklist(turn, "row")


def test_dependencies_are_about_tools_and_have_no_circles() -> None:
    with pytest.raises(DataError, match=r"only items about tool\.content"):
        read_checklist([item("c0", focus_on="assistant.tool_calls"), item("c1", dependence=["c0"])], "row")
    with pytest.raises(DataError, match="c0, c1 depend on one another"):
        read_checklist([item("c0", dependence=["c1"]), item("c1", dependence=["c0"])], "row")
    with pytest.raises(DataError, match="depends on itself"):
        read_checklist([item("c0", dependence=["c0"], weight=1)], "row")
