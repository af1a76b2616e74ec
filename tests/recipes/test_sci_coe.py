"""Sci-CoE's rewards on groups of solutions and strategies, with a judge that is a program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sci_coe_groups import (
    ANSWERS,
    BELOW,
    ODD,
    RIGHT,
    SOLUTIONS,
    STRATEGIES,
    anchored,
    asked,
    geometric,
    judge,
    said,
    scores,
    table,
)

from raylign.actors.embed import HashedNgrams
from raylign.actors.reward.outcome import Failed
from raylign.actors.reward.validate import validate
from raylign.actors.reward.worker import RewardWorker
from raylign.errors import JudgeUnavailable, RewardError
from raylign.recipes.sci_coe import geometry
from raylign.recipes.sci_coe.anchored import Grading
from raylign.recipes.sci_coe.judged import VOID
from raylign.recipes.sci_coe.matrix import Unparsable
from raylign.recipes.sci_coe.strategy_text import CUT, read_strategy
from raylign.testing import records

# ----------------------------------------------------------------------------------------------------- geometric


def test_rewards_of_a_group_are_those_of_its_matrix_and_its_vectors() -> None:
    reward = geometric(tau=0.75, clusters=2)
    values = reward.score(asked(), said(SOLUTIONS, STRATEGIES))
    verdicts = table(SOLUTIONS, STRATEGIES)
    assert verdicts.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]]
    np.testing.assert_allclose(scores(values)[:5], [1, 1, 2 / 3, 2 / 3, 1], atol=1e-9)
    vectors = HashedNgrams(HashedNgrams.Config()).embed(STRATEGIES).astype(np.float64)
    labels = np.array([value.details["cluster"] for value in values[5:] if value])
    c = geometry.consistency(verdicts, 0.75, geometry.LabelRule.relative, leave_one_out=True)
    expected = c + 0.5 * geometry.reliability(vectors, labels) + geometry.diversity(vectors)
    np.testing.assert_allclose(scores(values)[5:], expected, atol=1e-6)
    details = [value.details for value in values if value]
    assert [detail["accepted"] for detail in details[:5]] == [4, 4, 2, 2, 3]
    assert [detail["label"] for detail in details[:5]] == [True, True, False, False, True]
    assert details[5]["verdicts"] == [1, 1, 0, 0, 1] and details[5]["consistency"] == pytest.approx(c[0])
    assert details[0]["judge"]["judge/calls"] == 16 and "judge" not in details[1]


def test_the_naive_consensus_and_the_product() -> None:
    naive = geometric(weights=[1, 0, 0]).score(asked(), said(SOLUTIONS, STRATEGIES))
    for value in naive[5:]:
        assert value is not None and value.score == pytest.approx(value.details["consistency"])
    for value in geometric(combine=geometry.Combine.product).score(asked(), said(SOLUTIONS, STRATEGIES))[5:]:
        assert value is not None
        c, r, d = (value.details[name] for name in ("consistency", "reliability", "diversity"))
        assert value.score == pytest.approx(c * r * d ** (1 / 3))


def test_the_gold_answer_is_never_looked_at() -> None:
    trajectories = said(SOLUTIONS, STRATEGIES)
    known, hidden, false = (
        scores(geometric().score(asked(answer=answer), trajectories)) for answer in ("3mk", None, "4ms")
    )
    assert known == hidden == false
    assert validate(geometric(), [asked(answer=None)]) == []


def test_permuting_strategies_permutes_their_rewards() -> None:
    strategies = ["r9", "r3", "p2", "b2", "u1", "a0"]
    before = scores(geometric().score(asked(), said(SOLUTIONS, strategies)))
    order = [3, 0, 5, 1, 4, 2]
    after = scores(geometric().score(asked(), said(SOLUTIONS, [strategies[j] for j in order])))
    np.testing.assert_allclose(after[:5], before[:5])
    np.testing.assert_allclose(after[5:], [before[5 + j] for j in order], atol=1e-6)


def test_roles_are_told_by_the_calls_whatever_their_order() -> None:
    plain = said(SOLUTIONS, STRATEGIES)
    mixed = [plain[number] for number in (6, 0, 1, 8, 2, 3, 4, 5, 7)]
    by_text = dict(zip([t.text for t in plain], scores(geometric().score(asked(), plain)), strict=True))
    for trajectory, score in zip(mixed, scores(geometric().score(asked(), mixed)), strict=True):
        assert score == pytest.approx(by_text[trajectory.text], abs=1e-6)


def test_samples_of_a_role_that_is_neither_are_left_alone() -> None:
    other = records.trajectory(records.call("r9", role="critic"))
    plain = said(SOLUTIONS, STRATEGIES)
    values = geometric().score(asked(), [plain[0], other, *plain[1:]])
    assert values[1] is None and [scores(values)[0], *scores(values)[2:]] == scores(geometric().score(asked(), plain))


def test_the_matrix_is_asked_once_and_never_again() -> None:
    reward = geometric()
    first = reward.score(asked(), said(SOLUTIONS, STRATEGIES))[0]
    again = reward.score(asked(), said(SOLUTIONS, STRATEGIES))[0]
    assert first is not None and again is not None
    cost = [value.details["judge"] for value in (first, again)]
    assert [c["asked"] for c in cost] == [20, 20]
    assert [c["judge/calls"] for c in cost] == [16, 0]  # two solutions are the same
    assert [c["judge/hits"] for c in cost] == [4, 20]


def test_each_strategy_may_judge_a_part_of_the_solutions() -> None:
    values = geometric(solutions_judged=2).score(asked(), said(SOLUTIONS, STRATEGIES))
    details = [value.details for value in values if value]
    assert details[0]["judge"]["asked"] == 8 and len(values) == 9
    assert sum(detail["judged"] for detail in details[:5]) == 8
    for detail in details[5:]:
        assert len([verdict for verdict in detail["verdicts"] if verdict is not None]) == 2


# ------------------------------------------------------------------------------------------------- judges that fail


@pytest.mark.parametrize("reward", [geometric, anchored])
def test_a_judge_that_cannot_be_reached_leaves_the_whole_group_without_rewards(reward: Any) -> None:
    with pytest.raises(JudgeUnavailable):
        reward(judge(absent=0.3)).score(asked(), said(SOLUTIONS, STRATEGIES))
    node = {"_target_": f"raylign.recipes.sci_coe.{reward(judge()).__class__.__name__}", "judge": judge(absent=0.3)}
    node |= {"answers": ANSWERS} if reward is anchored else {}
    (outcome,), _ = RewardWorker(node, "rewards.x.fn", 10.0, "").score([(asked(), tuple(said(SOLUTIONS, STRATEGIES)))])
    assert isinstance(outcome, Failed) and "JudgeUnavailable" in outcome.reason


def test_a_reply_without_a_verdict_is_left_out_or_rejects_and_is_counted() -> None:
    mute = {**judge(mute=0.5), "tries": 1}
    left_out = geometric(mute).score(asked(), said(SOLUTIONS, STRATEGIES))
    rejects = geometric(mute, unparsable=Unparsable.reject).score(asked(), said(SOLUTIONS, STRATEGIES))
    assert left_out[0] is not None and rejects[0] is not None
    counted = left_out[0].details["judge"]["unparsable"]
    assert 0 < counted < 20 and counted == rejects[0].details["judge"]["unparsable"]
    truth = table(SOLUTIONS, STRATEGIES)
    for column, (gap, zero) in enumerate(zip(left_out[5:], rejects[5:], strict=True)):
        assert gap is not None and zero is not None
        for row, (verdict, or_zero) in enumerate(zip(gap.details["verdicts"], zero.details["verdicts"], strict=True)):
            assert verdict in (None, truth[row, column])
            assert or_zero == (0 if verdict is None else verdict)


def test_a_judge_without_any_verdict_is_no_verdict() -> None:
    with pytest.raises(RewardError, match="no readable verdict"):
        geometric(judge(mute=1.0)).score(asked(), said(SOLUTIONS, STRATEGIES))


def test_a_second_try_may_bring_the_verdict() -> None:
    value = geometric({**judge(mute=0.5), "tries": 20}).score(asked(), said(SOLUTIONS, STRATEGIES))[0]
    assert value is not None and value.details["judge"]["unparsable"] == 0
    assert value.details["judge"]["judge/calls"] > 16


# ----------------------------------------------------------------------------------------------------- strategies


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Recompute in joules. The answer is 42.7 J.", f"Recompute in joules. The {CUT} J."),
        ("Check units. \\boxed{42.7}", f"Check units. {CUT}"),
        ("Check. <answer>B</answer> Then bound it.", f"Check. {CUT} Then bound it."),
        ("Final answer: 3.2e5", CUT),
        ("The correct answer is (B), so reject others.", f"The {CUT}, so reject others."),
        ("The answer is B because of symmetry.", f"The {CUT} because of symmetry."),
        ("Reject it unless it says 42.7 or more.", f"Reject it unless it says {CUT} or more."),
    ],
)
def test_a_strategy_that_states_the_answer_is_cut_and_marked(text: str, kept: str) -> None:
    strategy = read_strategy(text, "How much energy is it?", {"42.7", "5"})
    assert strategy.stated and strategy.text == ("" if kept == CUT else kept)


@pytest.mark.parametrize(
    "text",
    [
        "Check that the answer is positive and that its unit is joule.",
        "Check that the answer is a positive number. The result is A or B or none.",
        "The answer should be dimensionless; recompute it with 3 digits.",
        "Verify that the result is at least 0 and at most 100.",
        "Use the 300 K of the question.",
        "Recompute 142.75 and 42.71 by another route.",
        "Take 5 steps.",
    ],
)
def test_a_strategy_that_speaks_of_the_answer_is_left_alone(text: str) -> None:
    strategy = read_strategy(text, "A gas at 300 K?", {"42.7", "300", "5"})
    assert not strategy.stated and strategy.text == text


def test_what_stands_before_the_heading_and_in_thoughts_is_not_the_strategy() -> None:
    text = "<think>It is \\boxed{7}</think>Sure.\n**Verification strategy:** Check the sign."
    assert read_strategy(text, "?", ()).text == "Check the sign." and not read_strategy(text, "?", ()).stated


def test_stating_the_answer_costs_and_strategies_without_a_word_have_the_least() -> None:
    clean = geometric().score(asked(), said(SOLUTIONS, ["r9 first", "p2", "u1", ""]))
    stated = geometric().score(asked(), said(SOLUTIONS, ["r9 first \\boxed{3mk}", "p2", "u1", "<think>r9</think>"]))
    assert clean[5] is not None and stated[5] is not None and stated[8] is not None
    assert stated[5].details["stated"] and not stated[5].details["void"] and not clean[5].details["stated"]
    without = sum(
        weight * stated[5].details[name]
        for name, weight in (("consistency", 1), ("reliability", 0.5), ("diversity", 1))
    )
    assert stated[5].score == pytest.approx(without - 0.1)
    assert stated[8].details["void"] and stated[8].score == VOID and "consistency" not in stated[8].details
    assert stated[0] is not None and stated[0].details["judged"] == 3  # the void one has no vote


def test_a_solution_without_a_word_is_rejected_unasked() -> None:
    values = geometric().score(asked(), said([RIGHT, "<think>?</think>"], ["a1", "a2"]))
    assert scores(values)[:2] == [1.0, 0.0] and values[0] is not None
    assert values[0].details["judge"]["asked"] == 2


def test_without_a_strategy_no_solution_has_a_reward() -> None:
    assert geometric().score(asked(), said(SOLUTIONS, [])) == [None] * 5
    assert scores(geometric().score(asked(), said([RIGHT], ["", ""]))) == [None, VOID, VOID]
    assert scores(geometric().score(asked(), said([], ["r9", ""]))) == [None, VOID]


# ------------------------------------------------------------------------------------------------------- anchored


def test_labels_pay_solutions_and_the_strategies_that_tell_them_apart() -> None:
    values = anchored().score(asked(), said(SOLUTIONS, STRATEGIES))
    assert scores(values)[:5] == [1, 1, 0, 0, 0]
    np.testing.assert_allclose(scores(values)[5:], [1 - 1 / 3, 1 - 2 / 3, 1 - 2 / 3, 1 - 2 / 3], atol=1e-9)
    strict = anchored(grading=Grading.strict).score(asked(), said(SOLUTIONS, [*STRATEGIES, "p2"]))
    np.testing.assert_allclose(scores(strict)[5:], [2 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3], atol=1e-9)


def test_a_question_that_nobody_solves_pays_no_strategy_and_asks_no_judge() -> None:
    values = anchored(judge(absent=1.0)).score(asked(), said([ODD, BELOW], STRATEGIES))
    assert scores(values) == [0, 0, None, None, None, None]


def test_a_question_that_everybody_solves() -> None:
    values = anchored(grading=Grading.strict).score(asked(), said([RIGHT, RIGHT], ["r9", "x"]))
    assert scores(values)[:3] == [1, 1, 1] and scores(values)[3] in (1, -1)


def test_labels_must_be_there_and_are_proven_before_a_run() -> None:
    assert validate(anchored(), [asked()]) == []
    (problem,) = validate(anchored(), [asked(answer=None)])
    assert "no gold answer" in problem
    with pytest.raises(ValueError, match="no gold answer"):
        anchored().score(asked(answer=None), said(SOLUTIONS, STRATEGIES))


def test_an_answer_that_cannot_be_compared_is_no_zero() -> None:
    with pytest.raises(RewardError, match="could not be compared"):
        anchored().score(asked(answer="12345"), said(SOLUTIONS, STRATEGIES))
