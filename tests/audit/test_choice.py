"""The samples that are graded: never more than the share, the same ones in any order, none that failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raylign.audit.choice import Budget
from raylign.loop.reward_metrics import SAMPLED
from raylign.records import Group, Missing
from raylign.testing import group, prompt, trajectory


def groups_of(count: int, size: int, first: int = 0) -> list[Group]:
    return [group(*[trajectory("x")] * size, prompt=prompt(first + number)) for number in range(count)]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("whole", [False, True])
def test_no_more_than_the_share_is_ever_asked_about(share: float, size: int, whole: bool) -> None:
    budget = Budget(share=share, seed=1)
    for step in range(30):
        budget.choose(groups_of(4, size, 4 * step), whole)
        assert budget.asked <= share * budget.sampled + 1e-6
        assert budget.asked > share * budget.sampled - (size if whole else 1) - 1e-6, "and hardly less"


def test_exactly_the_share_of_a_step_that_it_divides() -> None:
    budget = Budget(share=0.1, seed=1)
    assert [len(budget.choose(groups_of(10, 10, 10 * step))) for step in range(5)] == [10] * 5
    carried = Budget(share=0.1, seed=1)
    assert [len(carried.choose(groups_of(2, 2, 2 * step))) for step in range(6)] == [0, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("whole", [False, True])
def test_the_choice_hangs_on_prompt_and_sample_and_on_no_order(whole: bool) -> None:
    groups = groups_of(20, 4)
    chosen = {(groups[g].prompt.key, t) for g, t in Budget(share=0.2, seed=1).choose(groups, whole)}
    turned = list(reversed(groups))
    assert {(turned[g].prompt.key, t) for g, t in Budget(share=0.2, seed=1).choose(turned, whole)} == chosen
    other = {(groups[g].prompt.key, t) for g, t in Budget(share=0.2, seed=2).choose(groups, whole)}
    assert other != chosen, "another seed, other samples"
    if whole:
        assert {len([1 for key, _ in chosen if key == each.prompt.key]) for each in groups} == {0, 4}


def test_a_failed_sample_is_never_chosen() -> None:
    failed = Missing(reason="the engine died")
    first, second = groups_of(2, 4)
    broken = replace(first.trajectories[2], rewards={SAMPLED: failed})
    first = replace(first, trajectories=(*first.trajectories[:2], broken, first.trajectories[3]))
    assert len(Budget(share=1.0, seed=1).choose([first, second])) == 7
    assert Budget(share=1.0, seed=1).choose([first, second], whole=True) == [(1, index) for index in range(4)]


def test_the_counts_go_through_a_checkpoint() -> None:
    one, other = Budget(share=0.1, seed=1), Budget(share=0.1, seed=1)
    one.choose(groups_of(3, 5))
    other.load_state_dict(one.state_dict())
    later = groups_of(3, 5, 10)
    assert one.choose(later) == other.choose(later) and one == other
