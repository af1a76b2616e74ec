"""Group selectors: exactly who is kept, what missing scores do, and that a resumed run selects the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from raylign import testing
from raylign.config.build import build
from raylign.contracts import Part
from raylign.errors import ConfigError
from raylign.objectives.selection import Chain, KeepAll, Spread, TopK, VarianceFilter, selection_metrics
from raylign.records import Group
from raylign.testing import call, prompt, trajectory

HERE = "raylign.objectives.selection"


def group(scores: Sequence[float | None], name: str = "p", call_scores: bool = False) -> Group:
    samples = [trajectory(call(tokens=index + 1), seed=index) for index in range(len(scores))]
    finer = tuple(np.full(1, index, np.float32) for index in range(len(scores))) if call_scores else ()
    return testing.group(*samples, prompt=prompt(id=name), scores=scores, call_scores=finer)


def kept(selected: Group) -> list[int]:
    return [trajectory.sample_index for trajectory in selected.trajectories]


def random_groups(count: int, size: int, seed: int = 0) -> list[Group]:
    rng = np.random.default_rng(seed)
    return [group(list(rng.normal(0, rng.random(), size)), f"p{number}") for number in range(count)]


def test_top_k_keeps_exactly_the_best() -> None:
    selector = TopK(TopK.Config(keep=16), seed=1)
    for before, after in zip(random_groups(20, 32), selector.select(random_groups(20, 32)), strict=True):
        assert len(after.trajectories) == 16
        assert sorted(after.scores) == sorted(before.scores)[16:]  # type: ignore[type-var]
        assert kept(after) == sorted(kept(after)), "the old order"
        assert [before.scores[index] for index in kept(after)] == list(after.scores)


def test_best_of_n_with_as_many_raw_as_kept_changes_nothing() -> None:
    groups = random_groups(4, 16)
    selected = TopK(TopK.Config(keep=16), seed=1).select(groups)
    assert all(chosen is other for chosen, other in zip(selected, groups, strict=True))


def test_top_k_never_prefers_a_missing_score_to_a_bad_one() -> None:
    scores = [None, -9.0, None, 2.0, 1.0]
    (two,) = TopK(TopK.Config(keep=2), seed=1).select([group(scores)])
    assert kept(two) == [3, 4]
    whole = group(scores)
    (three,) = TopK(TopK.Config(keep=3), seed=1).select([whole])
    assert three is whole, "no more than three have a score: there is nothing to choose"


def test_ties_are_broken_by_lot_that_seed_and_prompt_fix() -> None:
    equal = [group([1.0] * 8, f"p{number}") for number in range(30)]
    first = [kept(chosen) for chosen in TopK(TopK.Config(keep=4), seed=1).select(equal)]
    assert first == [kept(chosen) for chosen in TopK(TopK.Config(keep=4), seed=1).select(equal)]
    assert first != [kept(chosen) for chosen in TopK(TopK.Config(keep=4), seed=2).select(equal)]
    assert len({tuple(chosen) for chosen in first}) > 10


def test_spread_keeps_the_farthest_and_one_extra() -> None:
    selector = Spread(Spread.Config(share=0.5, extra=1), seed=3)
    for before, after in zip(random_groups(20, 16), selector.select(random_groups(20, 16)), strict=True):
        scores = np.array(before.scores, float)
        order = np.argsort(-np.abs(scores - scores.mean()))
        assert len(after.trajectories) == 9
        assert set(order[:8]) <= set(kept(after))
    (odd,) = selector.select([group([0.0, 1.0, 5.0])])
    assert len(odd.trajectories) == 3, "ceil(1.5) and one more"


def test_spread_of_equal_scores_is_a_lottery() -> None:
    equal = [group([1.0] * 16, f"p{number}") for number in range(30)]
    selected = Spread(Spread.Config(), seed=3).select(equal)
    assert {len(chosen.trajectories) for chosen in selected} == {9}
    assert len({tuple(kept(chosen)) for chosen in selected}) > 10


def test_spread_leaves_missing_scores_out() -> None:
    (selected,) = Spread(Spread.Config(), seed=3).select([group([None, 0.0, 4.0, None, 1.0, 2.0])])
    assert None not in selected.scores
    assert len(selected.trajectories) == 3
    silent = group([None, None])
    assert Spread(Spread.Config(), seed=3).select([silent])[0] is silent


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_filter_keeps_exactly_the_k_largest(ratio: float, count: int) -> None:
    groups = random_groups(count, 8, seed=count)
    selected = VarianceFilter(VarianceFilter.Config(ratio=ratio), seed=1).select(groups)
    spread = [float(np.std([score for score in chosen.scores if score is not None])) for chosen in groups]
    k = max(int(ratio * count), 1)
    expected = sorted(np.argsort(spread)[::-1][:k])
    assert [chosen.prompt.id for chosen in selected] == [groups[at].prompt.id for at in expected]


def test_filter_takes_groups_without_variance_last_and_those_without_scores_after_them() -> None:
    groups = [group([None, None], "none"), group([1.0, 1.0], "flat"), group([None, 3.0], "one"), group([0.0, 1.0], "a")]
    selected = VarianceFilter(VarianceFilter.Config(ratio=0.5), seed=1).select(groups)
    assert [chosen.prompt.id for chosen in selected] == ["flat", "a"]
    assert VarianceFilter(VarianceFilter.Config(), seed=1).select([]) == []


def test_a_chain_goes_in_order() -> None:
    """TSR's released forms: best-of-N takes the best and then filters, spread filters and then takes the farthest."""
    top, variance = {"_target_": f"{HERE}.TopK", "keep": 2}, {"_target_": f"{HERE}.VarianceFilter", "ratio": 0.5}
    groups = [group([0.0, 9.0, 9.0], "flat at the top"), group([0.0, 1.0, 2.0], "varied")]
    first = Chain(Chain.Config(parts=[top, variance]), seed=1).select(groups)
    assert [chosen.prompt.id for chosen in first] == ["varied"]
    second = Chain(Chain.Config(parts=[variance, top]), seed=1).select(groups)
    assert [chosen.prompt.id for chosen in second] == ["flat at the top"]
    assert kept(second[0]) == [1, 2]


def test_turn_scores_go_with_their_trajectories() -> None:
    (selected,) = TopK(TopK.Config(keep=2), seed=1).select([group([0.0, 5.0, 1.0], call_scores=True)])
    assert [int(chosen[0]) for chosen in selected.call_scores if chosen is not None] == kept(selected) == [1, 2]


def test_what_was_discarded_is_counted_apart() -> None:
    groups = [group([0.0, 0.0, 1.0, 3.0], "a"), group([1.0] * 4, "b")]
    after = Chain(
        Chain.Config(
            parts=[{"_target_": f"{HERE}.VarianceFilter", "ratio": 0.5}, {"_target_": f"{HERE}.TopK", "keep": 2}]
        ),
        seed=1,
    ).select(groups)
    metrics = selection_metrics(groups, after)
    assert (metrics["select/groups_kept"], metrics["select/groups_discarded"]) == (1, 1)
    assert (metrics["select/trajectories_kept"], metrics["select/trajectories_discarded"]) == (2, 6)
    assert (metrics["select/tokens_kept"], metrics["select/tokens_discarded"]) == (3 + 4, 1 + 2 + 10)
    assert metrics["select/std_before"] == pytest.approx(np.std([0, 0, 1, 3]) / 2)
    assert metrics["select/std_after"] == 1.0
    assert (metrics["select/zero_variance_before"], metrics["select/zero_variance_after"]) == (0.5, 0.0)
    nothing = selection_metrics([group([None])], [])
    assert not [name for name in nothing if "std" in name or "variance" in name], "absent is not zero"


def test_best_of_n_can_take_a_groups_variance_away() -> None:
    """The digest's pitfall: the mean rises, the deviation falls to 0, and the log says so."""
    groups = [group([0.0] * 16 + [1.0] * 16)]
    metrics = selection_metrics(groups, TopK(TopK.Config(keep=16), seed=1).select(groups))
    assert (metrics["select/zero_variance_before"], metrics["select/zero_variance_after"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": f"{HERE}.TopK", "keep": 0}, "keep is 0"),
        ({"_target_": f"{HERE}.Spread", "share": 0.0}, "share is 0.0"),
        ({"_target_": f"{HERE}.VarianceFilter", "ratio": 2.0}, "ratio is 2.0"),
        ({"_target_": f"{HERE}.Chain"}, "parts is empty"),
        ({"_target_": f"{HERE}.Chain", "parts": [{"_target_": f"{HERE}.TopK", "kep": 3}]}, "selector.parts.0.kep"),
    ],
)
def test_what_makes_no_sense_is_refused(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Part, node, "selector", seed=1)


def test_by_default_everything_is_kept() -> None:
    groups = [*random_groups(3, 4), group([None])]
    selected = KeepAll(KeepAll.Config(), seed=1).select(groups)
    assert all(chosen is other for chosen, other in zip(selected, groups, strict=True))
