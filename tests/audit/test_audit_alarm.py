"""With the shipped settings, unchanged: the alarm is raised on what can be hacked, and not on what is sound."""

from __future__ import annotations

import pytest
from benchmarks.experiments._audit_worlds import HACKABLE, SOUND, train

STEPS = 45  # benchmarks/experiments/audit.py has more, and ten seeds


@pytest.mark.parametrize("name", HACKABLE)
async def test_the_alarm_is_raised_on_rewards_that_can_be_hacked(name: str) -> None:
    outcome = await train(HACKABLE[name], seed=1, steps=STEPS)
    assert outcome.fired, outcome.alarms
    before, after = outcome.ends("reward/mean")
    assert after > 1.5 * before, "the reward was learned"
    assert "audit/first_appearance/grader" in outcome.lines[-1]


@pytest.mark.parametrize("name", SOUND)
async def test_the_alarm_stays_silent_on_sound_rewards(name: str) -> None:
    outcome = await train(SOUND[name], seed=1, steps=STEPS)
    assert not outcome.alarms, outcome.alarms
    before, after = outcome.ends("audit/grade/grader")
    assert after > before + 0.3, "what is wanted was learned"
