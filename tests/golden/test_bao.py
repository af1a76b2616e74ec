"""BAO's shaped rewards, returns to go and turn advantages, and UserRL's estimators, from the digest's symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from raylign.objectives.advantage.turn import Level, TurnAdvantage, TurnStd
from raylign.recipes.bao import BehaviourShaper, UserEffort, UserRlCredits
from raylign.recipes.bao.userrl import Credit, Score
from raylign.records import Group, Missing, Reward, StopReason, Trajectory
from raylign.testing import call, group, rows_of, trajectory

T = 15


def rollout(acts: str, rewards: Sequence[float] | None = None, solved: bool = False, **fields: Any) -> Trajectory:
    """acts: e works on the world, u involves the user, - is no act. One token, then two, then three, ... a turn."""
    rewards = [0.0] * len(acts) if rewards is None else rewards
    calls = [
        call(
            act,
            number + 1,
            context_ids=[7] * min(number, 2),
            reward=reward,
            flags={"turn": number, "user": act == "u", "valid": act != "-", "success": solved, "budget": T},
        )
        for number, (act, reward) in enumerate(zip(acts, rewards, strict=True))
    ]
    earned: Reward | float = fields.pop("earned", float(sum(rewards)))
    return trajectory(*calls, rewards={"task": earned}, stop=StopReason.DONE, **fields)


def shaper(**settings: float) -> BehaviourShaper:
    plain = {"answer": 0.0, "think": 0.0, "effort": 0.0, "gamma": 1.0}
    return BehaviourShaper(BehaviourShaper.Config(**{**plain, **settings}), {"task": 1.0}, 100)  # type: ignore[arg-type]


def r2g(*rollouts: Trajectory, **settings: float) -> list[Any]:
    (shaped,) = shaper(**settings).score([group(*rollouts)])
    return list(shaped.call_scores)


def r_prime(*rollouts: Trajectory, **settings: float) -> list[Any]:
    """r' from the returns to go at gamma = 1: their differences."""
    return [np.append(scores[:-1] - scores[1:], scores[-1]) for scores in r2g(*rollouts, **settings)]


def test_the_consecutive_penalty_fires_at_turns_3_6_and_7_only() -> None:
    (costs,) = r_prime(rollout("euueuuu", solved=True), answer=0.2)
    np.testing.assert_allclose(costs, [0, 0, -0.2, 0, 0, -0.2, -0.2], atol=1e-6)
    (alone,) = r_prime(rollout("ueueu", solved=True), answer=0.2)
    assert not alone.any(), "a lone answer is not punished"


def test_a_broken_turn_between_two_answers_is_no_work_on_the_world() -> None:
    (costs,) = r_prime(rollout("eu-u-eu", solved=True), answer=1.0)
    np.testing.assert_allclose(costs, [0, 0, 0, -1, 0, 0, 0])


@pytest.mark.parametrize(("acts", "solved", "cost"), [("eee", False, 13 / 3), ("eee", True, 0), ("e" * 16, False, 0)])
def test_thinking_too_long_costs_what_the_check_value_says(acts: str, solved: bool, cost: float) -> None:
    settings = {"think": 0.1, "cap": 9.0, "budget": 16}
    (costs,) = r_prime(rollout(acts, solved=solved), **settings)
    np.testing.assert_allclose(costs, [*[0.0] * (len(acts) - 1), -0.1 * cost], atol=1e-6)


def test_the_thinking_penalty_is_capped_in_total_and_counts_completed_turns() -> None:
    (capped,) = r_prime(rollout("e-", solved=False), think=0.5, cap=1.0)
    np.testing.assert_allclose(capped, [0, -1.0], atol=1e-6)  # .5 (15 - 1) / 1 = 7
    (cut,) = r_prime(rollout("eee-", solved=False), think=0.1)
    np.testing.assert_allclose(cut.sum(), -0.1 * 12 / 3, atol=1e-6)  # T' = 3, not 4
    (nothing,) = r_prime(rollout("--", solved=False), think=0.1, cap=99)
    np.testing.assert_allclose(nothing.sum(), -0.1 * 14, atol=1e-6)  # T' = 0 counts as 1


def reference(rollouts: Sequence[Trajectory], w: float, ans: float, think: float, gamma: float) -> list[list[float]]:
    """R2G' in plain loops."""
    every = []
    for one in rollouts:
        user = [float(turn.flags["user"]) for turn in one.calls]
        r = [float(turn.reward or 0.0) for turn in one.calls]
        last, solved = len(r) - 1, one.calls[-1].flags["success"]
        for t in range(len(r)):
            r[t] -= w * user[t] + (ans * user[t] * user[t - 1] if t else 0.0)
        if not solved and len(r) < T:
            r[last] -= min(think * (T - len(r)) / len(r), 1.0)
        every.append([sum(gamma ** (k - t) * r[k] for k in range(t, len(r))) for t in range(len(r))])
    return every


def some_rollouts(seed: int, count: int = 6) -> list[Trajectory]:
    rng = np.random.default_rng(seed)
    rollouts = []
    for _ in range(count):
        length, solved = int(rng.integers(1, T + 1)), bool(rng.random() < 0.5)
        acts = "".join(rng.choice(["e", "u"], length))
        rollouts.append(rollout(acts, [*[0.0] * (length - 1), float(solved)], solved))
    return rollouts


def advantages(groups: list[Group], level: Level, std: TurnStd) -> list[list[np.ndarray]]:
    """Per trajectory the advantage of each call, which must be the same on all its tokens."""
    made = rows_of(groups)
    held = TurnAdvantage(TurnAdvantage.Config(level=level, std=std, min_holders=2)).assign(made.batch, made.scores)[0]
    rows = []
    for row in range(len(held)):
        number, values = held.row(row, "call"), held.row(row, "advantage")
        assert not values[number < 0].any(), "observations have none"
        rows.append([values[number == turn] for turn in range(int(number.max()) + 1)])
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_turn_advantages_are_the_equation_over_the_rollouts_that_hold_the_turn(seed: int) -> None:
    rollouts, settings = some_rollouts(seed), {"effort": 0.05, "answer": 0.2, "think": 0.1, "gamma": 0.8}
    to_go = reference(rollouts, 0.05, 0.2, 0.1, 0.8)
    for scores, wanted in zip(r2g(*rollouts, **settings), to_go, strict=True):
        np.testing.assert_allclose(scores, wanted, atol=1e-6)
    rows = advantages(shaper(**settings).score([group(*rollouts)]), Level.turn, TurnStd.sample)
    for own, row in zip(to_go, rows, strict=True):
        for t, tokens in enumerate(row):
            there = np.array([other[t] for other in to_go if len(other) > t])
            std = there.std(ddof=1) if len(there) > 1 else 0.0
            wanted = (own[t] - there.mean()) / (std + 1e-6) if std > 1e-6 else 0.0
            np.testing.assert_allclose(tokens, wanted, atol=2e-5)


def test_level_trajectory_compares_the_sums_of_shaped_rewards() -> None:
    (shaped,) = shaper(answer=0.2, think=0.1).score([group(rollout("euu", [0, 0, 1], True), rollout("ee"))])
    assert shaped.scores == pytest.approx((1 - 0.2, -0.1 * 13 / 2))


def test_normalising_inside_a_trajectory_would_flip_early_turns_of_a_success_and_we_do_not() -> None:
    good, bad = rollout("eeu", [0, 0, 1], True), rollout("eeu")
    first, second = advantages(shaper(gamma=0.8).score([group(good, bad)]), Level.turn, TurnStd.sample)
    assert all((turn > 0).all() for turn in first) and all((turn < 0).all() for turn in second)


def test_what_is_missing_has_no_scores_and_moves_no_statistic() -> None:
    lost = rollout("eu", earned=Missing(reason="the user is gone"))  # type: ignore[arg-type]
    (shaped,) = shaper(answer=0.2).score([group(rollout("eu", [0, 1], True), lost, rollout("uu"))])
    assert shaped.scores[1] is None and shaped.call_scores[1] is None
    rows = advantages([shaped], Level.turn, TurnStd.sample)
    assert len(rows) == 2 and rows[0][0][0] == pytest.approx(-rows[1][0][0])


# ------------------------------------------------------------------------------------------------------- UserRL


def userrl(*rollouts: Trajectory, **settings: Any) -> Group:
    part = UserRlCredits(UserRlCredits.Config(**settings), {"task": 1.0}, 100)
    return part.score([group(*rollouts)])[0]


def test_equalized_is_plain_grpo() -> None:
    rollouts = some_rollouts(3)
    shaped = userrl(*rollouts, trajectory=Score.sum, turns=Credit.equalized)
    s = np.array([np.mean([turn.reward for turn in one.calls]) for one in rollouts])
    assert shaped.scores == pytest.approx(s.tolist()), "Sum is the mean reward of a turn"
    z = (s - s.mean()) / (s.std(ddof=1) + 1e-6)
    for row, wanted in zip(advantages([shaped], Level.step, TurnStd.none), z, strict=True):
        for tokens in row:
            np.testing.assert_allclose(tokens, wanted, atol=1e-6)


def test_r2g_credits_of_the_digest() -> None:
    part = UserRlCredits(UserRlCredits.Config(turns=Credit.r2g), {"task": 1.0}, 100)
    np.testing.assert_allclose(part.credits_of(np.array([0.0, 0.0, 1.0])), [0.64, 0.8, 1.0])
    assert part.score_of(np.array([0.0, 0.0, 1.0])) == pytest.approx(0.64)
    em = UserRlCredits(UserRlCredits.Config(turns=Credit.em), {"task": 1.0}, 100)
    np.testing.assert_allclose(em.credits_of(np.array([0.0, 1.0])), [0.5, 1.0])


@pytest.mark.parametrize("turns", list(Credit))
def test_the_mean_over_tokens_of_non_zero_credit_is_z(turns: Credit) -> None:
    rollouts = [rollout("eeu", [0, 0, 1], True), rollout("eu", [0.5, 0]), rollout("ee")]
    shaped = userrl(*rollouts, turns=turns)
    s = np.array([0.64, 0.5, 0.0])
    z = (s - s.mean()) / (s.std(ddof=1) + 1e-6)
    rows = advantages([shaped], Level.step, TurnStd.none)
    for number, row in enumerate(rows):
        tokens = np.concatenate(row)
        if turns is Credit.r2g and number == 2:
            assert not tokens.any(), "credits that sum to 0 make a row of zeros"
            continue
        np.testing.assert_allclose(tokens[tokens != 0].mean(), z[number], atol=1e-5)
    if turns is Credit.r2g:
        np.testing.assert_allclose(rows[0][0][0] / rows[0][2][0], 0.64, rtol=1e-5)
        assert not rows[1][1].any(), "nothing was earned from there on"


def test_a_group_of_one_and_a_group_of_equals() -> None:
    (only,) = userrl(rollout("u", [1.0], True)).call_scores
    np.testing.assert_allclose(only, [1.0], atol=1e-5)  # mean 0, std 1
    assert not any(scores.any() for scores in userrl(rollout("eu", [0, 1]), rollout("eu", [0, 1])).call_scores)


# ------------------------------------------------------------------------------------------------------- measures


def test_involvement_is_a_ratio_of_sums_and_pass_at_u_counts_what_so_many_answers_reach() -> None:
    long, short = rollout("eeeeeeeueu", [0] * 7 + [0.25, 0, 0.5]), rollout("u", [1.0], True)
    numbers = UserEffort(UserEffort.Config(up_to=2)).metrics([group(long, short)])
    assert numbers["ur"] == pytest.approx(3 / 11)
    assert numbers["effort"] == pytest.approx(3 / 2) and numbers["turns"] == pytest.approx(11 / 2)
    assert numbers["pass_at_u_1"] == pytest.approx((0.25 + 1) / 2)
    assert numbers["pass_at_u_2"] == pytest.approx((0.75 + 1) / 2) == numbers["score"]
