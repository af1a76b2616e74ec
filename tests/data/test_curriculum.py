"""When a curriculum goes deeper, and that it stands where it stood after a restart."""

from __future__ import annotations

import json

import pytest

from raylign.data.curriculum import Curriculum, Trigger
from raylign.errors import CheckpointError


def test_depth_rises_when_validation_stops_gaining() -> None:
    rule = Curriculum(Curriculum.Config(depths=[1, 2, 3], trigger=Trigger.gain, gain_below=0.01, gain_steps=4))
    for score in (0.1, 0.2, 0.3, 0.305, 0.304):
        assert rule.depth == 1
        for _ in range(2):
            rule.step(None)
        rule.evaluated(score)
    assert rule.depth == 2 and rule.switches == [{"from": 1, "to": 2, "after": 10, "why": "gain"}]


def test_curriculum_without_a_trigger_is_refused() -> None:
    with pytest.raises(ValueError, match="need a trigger"):
        Curriculum.Config(depths=[1, 2])
    with pytest.raises(ValueError, match="must rise"):
        Curriculum.Config(depths=[2, 1])


def test_a_restart_goes_on_at_the_same_depth_and_no_other_depths_are_taken_for_it() -> None:
    config = Curriculum.Config(depths=[1, 2, 3], trigger=Trigger.solve_all, solve_all_above=0.5, solve_all_steps=2)
    rule = Curriculum(config)
    assert [rule.step(0.9) for _ in range(3)] == [False, True, False]
    state = json.loads(json.dumps(rule.state_dict()))
    resumed = Curriculum(config)
    resumed.load_state_dict(state)
    assert resumed.depth == 2 and resumed.step(0.9) and resumed.depth == 3
    for depths in ([1], [1, 3], [1, 2]):
        other = Curriculum(Curriculum.Config(depths=depths, trigger=Trigger.solve_all))
        with pytest.raises(CheckpointError, match=r"curriculum\.depths"):
            other.load_state_dict(state)
