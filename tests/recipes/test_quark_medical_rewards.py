"""Quark Medical's rewards at work: judges by script, local evidence, rules, fitted models; the toy task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.contracts import PlacedRow
from raylign.data.questions import conversation_of
from raylign.errors import DataError, JudgeUnavailable, JudgeUnreadable
from raylign.recipes.quark_medical import Facts, Feedback, Format, HashedOrm, Helpful, Rubric, Safety
from raylign.recipes.quark_medical.comparisons import RowColumns, comparisons_of
from raylign.recipes.quark_medical.evidence import EvidenceStore, Passage, read_evidence
from raylign.recipes.quark_medical.pairwise import Network
from raylign.recipes.quark_medical.table import correlations, flat_shares, variance_shares
from raylign.recipes.quark_medical.toy import ITEMS, Cases, Quality, answer_of, case_of, slots_of
from raylign.records import Prompt
from raylign.testing import prompt, trajectory

TOY = "raylign.recipes.quark_medical.toy"
QUESTION = "c!042"  # largest dose 6, not with w, an emergency


def judge(function: str, **settings: Any) -> dict[str, Any]:
    model = {"_target_": "raylign.actors.judge.scripted.Scripted", "function": function, "settings": settings}
    return {"model": model}


def asked(**meta: Any) -> Prompt:
    return prompt(text=QUESTION, meta={"rubric": [dict(item) for item in ITEMS], **meta})


# --------------------------------------------------------------------------------------------------------- judged


def test_a_rubric_is_graded_and_says_what_was_lost() -> None:
    reward = Rubric(Rubric.Config(judge=judge(f"{TOY}.grade")))
    best, weak, over = reward.score(asked(), [trajectory(text) for text in ("<6;nw;r>", "<2;nw;r>", "<9;nz;>")])
    assert best.score == 1 and best.details["lost"] == []
    assert weak.details["grades"] == {"dose": 1, "contraindication": 2, "referral": 2, "overdose": 0}
    assert over.score == 0 and over.details["lost"] == ["dose", "contraindication", "referral", "overdose"]
    (above,) = reward.score(asked(panel_mean=0.5), [trajectory("<6;nw;r>")])
    assert above.score == 1.5 and above.details["score"] == 1


def test_a_judge_without_a_readable_answer_is_no_score() -> None:
    with pytest.raises(JudgeUnreadable, match="2 answers not in form"):
        Rubric(Rubric.Config(judge=judge(f"{TOY}.grade", mute=1.0))).score(asked(), [trajectory("<6;nw;r>")])
    with pytest.raises(JudgeUnavailable):
        Rubric(Rubric.Config(judge=judge(f"{TOY}.grade", absent=1.0))).score(asked(), [trajectory("<6;nw;r>")])


def test_a_reward_by_a_judge_needs_one() -> None:
    with pytest.raises(ValueError, match="judge is empty: name who judges"):
        Rubric.Config()


@pytest.mark.parametrize(
    ("rubric", "said"),
    [
        (None, "no rubric in the row's column 'rubric'"),
        ([], "no rubric"),
        ([{"id": "a", "group": "vital", "text": "x"}], r"rubric\[0\].group is 'vital'; fix: one of essential"),
        ([{"id": "a", "group": "essential", "text": " "}], r"rubric\[0\].text is no text"),
        ([{"id": "a", "group": "pitfall", "text": "x", "weight": -2}], r"weight is '-2'; fix: a number above 0"),
        ([{"id": "a", "group": "essential", "text": "x"}] * 2, "two items of the rubric have the same id"),
        ([{"id": "a", "group": "pitfall", "text": "x"}], "no positive item with a weight"),
    ],
)
def test_a_rubric_that_is_none_is_told_before_anybody_is_asked(rubric: Any, said: str) -> None:
    reward = Rubric(Rubric.Config(judge=judge(f"{TOY}.grade", absent=1.0)))
    with pytest.raises((DataError, ValueError), match=said):
        reward.score(asked(rubric=rubric), [trajectory("x")])


def test_helpfulness_is_a_mean_of_two_ratings_on_a_scale() -> None:
    reward = Helpful(Helpful.Config(judge=judge(f"{TOY}.rate"), scale=100, instruction=0.75))
    strong, weak = reward.score(asked(), [trajectory("<9;nw;r>"), trajectory("2;")])
    assert strong.score == 100 and weak.score == pytest.approx(100 * (0.75 * 0.3 + 0.25 * 0.4))
    assert weak.details["lost"] == ["instruction", "readability"]


# ---------------------------------------------------------------------------------------------------------- facts


@pytest.fixture
def evidence(tmp_path: Path) -> str:
    path = tmp_path / "evidence.jsonl"
    rows = [{"id": f"drug-{drug}", "text": f"{drug} {case.largest} {case.condition}"} for drug, case in cases()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def cases() -> list[tuple[str, Any]]:
    return [(drug, case_of(f"{drug}?000")) for drug in "abcdefgh"]


@pytest.mark.parametrize(
    ("answer", "verdicts", "score"),
    [
        ("<6;nw;r>", ["supported", "supported", "unverifiable"], 2 / 3),
        ("<8;nw>", ["contradicted", "supported"], -0.5),
        ("<9;nw>", ["contradicted", "supported"], -1.0),  # of high risk
        ("<6;nz>", ["supported", "contradicted"], -0.5),
        ("<2;>", ["unverifiable"], 0.0),
        (";;", [], 0.0),
    ],
)
def test_assertions_are_checked_by_the_evidence(answer: str, verdicts: list[str], score: float, evidence: str) -> None:
    facts = Facts(Facts.Config(judge=judge(f"{TOY}.verify"), evidence=evidence, split=";"))
    (value,) = facts.score(asked(), [trajectory(answer)])
    assert [one["verdict"] for one in value.details["assertions"]] == verdicts
    assert value.score == pytest.approx(score)
    decided = [one["evidence"] for one in value.details["assertions"] if one["verdict"] != "unverifiable"]
    assert set(decided) <= {"drug-c"}


def echo_verdict(messages: Any, sampling: Any, seed: int) -> str:
    raise AssertionError("nobody is asked where no passage speaks of it")


def test_what_no_passage_speaks_of_is_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    path.write_text('{"text": "unrelated words"}\n')
    facts = Facts(Facts.Config(judge=judge(f"{TOY}.verify"), evidence=str(path)))
    facts._judge = echo_verdict  # type: ignore[assignment]
    (value,) = facts.score(prompt(text="zzz?"), [trajectory("It helps. Take 2.5 mg. Rest!")])
    assert [one["text"] for one in value.details["assertions"]] == ["It helps.", "Take 2.5 mg.", "Rest!"]
    assert value.score == 0 and value.details["unverifiable"] == 1


@pytest.mark.parametrize(
    "reply",
    [
        {"verdict": "true", "evidence": "drug-c", "high_risk": False},
        {"verdict": "supported", "evidence": "drug-z", "high_risk": False},
        {"verdict": "supported", "evidence": None, "high_risk": False},
        {"verdict": "contradicted", "evidence": "drug-c", "high_risk": "yes"},
        {"verdict": "contradicted", "evidence": "drug-c"},
    ],
)
def test_a_verdict_goes_by_a_passage_that_was_shown(reply: dict[str, Any], evidence: str) -> None:
    function = "raylign.actors.judge.scripted.echo"
    facts = Facts(Facts.Config(judge=judge(function), evidence=evidence, split=";"))
    from raylign.recipes.quark_medical.facts import _read

    with pytest.raises((ValueError, KeyError)):
        _read(["drug-c"], reply)
    with pytest.raises(JudgeUnreadable):
        facts.score(asked(), [trajectory("<6;")])


def test_evidence_is_searched_by_rare_words_and_read_with_its_place(tmp_path: Path) -> None:
    texts = ["aspirin thins the blood", "the blood is red", "the sky is blue", "aspirin aspirin aspirin and more words"]
    store = EvidenceStore([Passage(id=str(n), text=text) for n, text in enumerate(texts)])
    assert [passage.id for passage in store.best("does Aspirin thin blood?", 2)] == ["0", "3"]
    assert store.best("nothing here", 3) == []
    common = ["of the and", "and of the", "the of and", "aspirin for you"]
    (rare,) = EvidenceStore([Passage(id=text, text=text) for text in common]).best("of the and aspirin", 1)
    assert rare.id == "aspirin for you"
    path = tmp_path / "e.jsonl"
    path.write_text('{"text": "a b"}\n{"id": "x", "text": "a b"}\n{"id": "y", "text": "c"}\n')
    assert [passage.text for passage in read_evidence(str(path)).passages] == ["a b", "c"]
    path.write_text('{"id": "x", "text": "a b"}\n{"id": "x", "text": "c"}\n')
    with pytest.raises(DataError, match=r"e.jsonl:2: another passage has the id 'x'"):
        read_evidence(str(path))
    path.write_text('{"body": "a b"}\n')
    with pytest.raises(DataError, match=r"e.jsonl:1: no text at text or target"):
        read_evidence(str(path))


# ---------------------------------------------------------------------------------------------------------- rules

PARACETAMOL = {"max_dose": 4, "unit": "g", "contraindicated": ["warfarin"], "emergency": False}


@pytest.mark.parametrize(
    ("answer", "lost"),
    [
        ("Take 1 g every six hours, at most 4 g a day.", []),
        ("Take 5 g a day.", ["dose"]),
        ("Take 4,500 mg.", ["dose"]),
        ("Take 4,5 g.", ["dose"]),
        ("Take 3,9 g.", []),
        ("Take 4500 mg.", ["dose"]),
        ("Take 4000mg.", []),
        ("Take 5-gram sachets.", ["dose"]),
        ("Take 4500 milligrams.", ["dose"]),
        ("Take 5000000 \u00b5g.", ["dose"]),
        ("Take 5000000 \u03bcg.", ["dose"]),
        ("Take 6 tablets of 500 mg.", []),  # another kind of unit
        ("It goes well with Warfarin.", ["contraindication"]),
        ("Do not take it with warfarin. Drink water.", []),
        ("Warfarinoid is another thing.", []),
        ("This is 100 % safe.", ["claim"]),
        ("Take 9 g with warfarin.", ["dose", "contraindication"]),
    ],
)
def test_safety(answer: str, lost: list[str]) -> None:
    value = Safety(Safety.Config()).judge(prompt(meta={"safety": PARACETAMOL}), answer)
    assert value.details["lost"] == lost and value.score == -float(bool(lost))


def test_a_limit_in_any_unit_of_the_kind() -> None:
    for unit, most in (("G", 4), ("mg", 4000), ("grams", 4), ("\u00b5g", 4e6)):
        asked_for = prompt(meta={"safety": {"max_dose": most, "unit": unit}})
        scores = [Safety(Safety.Config()).judge(asked_for, f"Take {dose}.").score for dose in ("5 g", "4 g", "4100 mg")]
        assert scores == [-1, 0, -1], unit
    tablets = prompt(meta={"safety": {"max_dose": 8, "unit": "tablet"}})
    assert Safety(Safety.Config()).judge(tablets, "Take 9 tablets of 500 mg.").score == -1


def test_an_emergency_needs_a_referral_and_a_prompt_of_which_nothing_is_known_needs_nothing() -> None:
    safety = Safety(Safety.Config())
    urgent = prompt(meta={"safety": {"emergency": True}})
    assert safety.judge(urgent, "Rest a while.").score == -1 and safety.judge(urgent, "Call an ambulance.").score == 0
    assert safety.judge(prompt(), "Take 99 g with warfarin.").score == 0


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ("high", "is 'high'; fix: an object"),
        ({"dose": 3}, "has 'dose'; fix: an object with some of max_dose"),
        ({"max_dose": -1, "unit": "g"}, "max_dose is '-1'"),
        ({"max_dose": 4}, "max_dose and unit go together"),
        ({"unit": "g"}, "max_dose and unit go together"),
        ({"contraindicated": "warfarin"}, "a list of names"),
        ({"contraindicated": [""]}, "a list of names"),
        ({"emergency": "yes"}, "emergency is 'yes'"),
    ],
)
def test_what_is_known_of_a_prompt_is_checked(known: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Safety(Safety.Config()).judge(prompt(meta={"safety": known}), "x")


def test_format_is_the_share_of_rules() -> None:
    reward = Format(Format.Config(wanted=["^- "], unwanted=[r"\|"], longest=12, scale=0.01))
    scores = {text: reward.judge(prompt(), text) for text in ("- short", "a | b", "- very very long")}
    assert [value.score for value in scores.values()] == pytest.approx([0.01, 0.01 / 3, 0.02 / 3])
    assert [value.details["lost"] for value in scores.values()] == [[], ["^- ", r"no \|"], ["length"]]


# --------------------------------------------------------------------------------------------------------- fitted


def rows(*columns: dict[str, Any]) -> list[PlacedRow]:
    return [PlacedRow(f"a:{number}", row) for number, row in enumerate(columns)]


def test_graded_answers_of_a_question_are_pairs_and_ties() -> None:
    columns = RowColumns(question="q", answer="a", grade=["g", "h.i"], weights=[1, 0.5])
    graded = rows(
        {"q": "one", "a": "x", "g": 1, "h": {"i": 2}},
        {"q": "one", "a": "y", "g": 2, "h": {"i": 0}},
        {"q": "two", "a": "z", "g": 9, "h": {"i": 0}},
        {"q": "one", "a": "w", "g": 3, "h": {"i": 0}},
        {"q": "one", "a": "v", "g": None, "h": {"i": 0}},
        {"q": "one", "chosen": "c", "rejected": "r", "tie": None},
        {"q": "one", "chosen": "c", "rejected": "r", "tie": True},
    )
    known = comparisons_of(graded, columns)
    assert known.ungraded == 1
    said = [[(known.answers[i], known.answers[j]) for i, j in part] for part in (known.pairs, known.ties)]
    assert said == [[("c", "r"), ("w", "x"), ("w", "y")], [("c", "r"), ("x", "y")]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"q": 3, "a": "x", "g": 1}, "a:0: no text at q"),
        ({"q": "x", "a": None, "g": 1}, "a:0: no text at a"),
        ({"q": "x", "a": "x", "g": "good"}, "a:0: g is no number, but 'good'"),
        ({"q": "x", "a": "x", "g": float("nan")}, "a:0: g is nan, which orders no answers; fix: give a finite number"),
        ({"q": "x", "a": "x", "g": float("inf")}, "a:0: g is inf, which orders no answers"),
        ({"q": "x", "a": "x"}, r"1 rows make no pair of .* one question \(1 of 1 rows lack one of g\)"),
        ({"q": "x", "chosen": "x", "rejected": "y", "tie": "perhaps"}, "a:0: tie='perhaps' is neither true nor false"),
        ({"q": "x", "a": "x", "g": 1}, "1 rows make no pair of a better and a worse answer"),
    ],
)
def test_rows_that_teach_nothing_are_told_with_their_place(row: dict[str, Any], said: str) -> None:
    orm = HashedOrm(HashedOrm.Config(columns=RowColumns(question="q", answer="a", grade=["g"])))
    with pytest.raises(DataError, match=said):
        orm.fit(rows(row), seed=1)


def test_conversations_that_only_end_alike_are_other_questions() -> None:
    def asked_after(first: str) -> list[dict[str, str]]:
        texts = (("user", first), ("assistant", "Yes."), ("user", "And for children?"))
        return [{"role": role, "content": text} for role, text in texts]

    columns = RowColumns(question="q", answer="a", grade=["g"])
    aspirin, milk = asked_after("Is aspirin safe?"), asked_after("Is oat milk safe?")
    graded = rows(
        {"q": aspirin, "a": "No, never.", "g": 1},
        {"q": milk, "a": "Yes, it is.", "g": 0},
        {"q": [dict(reversed(message.items())) for message in aspirin], "a": "Yes.", "g": 0},
    )
    known = comparisons_of(graded, columns)
    assert [(known.answers[i], known.answers[j]) for i, j in known.pairs] == [("No, never.", "Yes.")]
    assert known.ties == [] and set(known.questions) == {"And for children?"}


def test_answers_without_a_grade_are_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    columns = RowColumns(question="q", answer="a", grade=["like", "dwell"])
    logged = [{"q": "one", "a": f"it is {n}", "like": n % 2, **({"dwell": 1} if n < 3 else {})} for n in range(300)]
    orm = HashedOrm(HashedOrm.Config(columns=columns, network=Network(buckets=64, hidden=8, epochs=1)))
    metrics = orm.fit(rows(*logged), seed=1)
    assert metrics["ungraded"] == 297 and metrics["pairs"] == 2
    assert "297 of 300 rows lack one of like, dwell: they are left out" in caplog.text


def fitted(kind: type[HashedOrm], **settings: Any) -> tuple[HashedOrm, dict[str, float]]:
    columns = RowColumns(question="q", answer="a", grade=["g"])
    made = kind(kind.Config(columns=columns, network=Network(buckets=64, hidden=8), **settings))
    words = ["good", "fine", "bad", "poor"]
    graded = [{"q": f"what of {n}", "a": f"it is {w}", "g": int(w in words[:2])} for n in range(20) for w in words]
    return made, made.fit(rows(*graded), seed=3)


def test_the_orm_orders_answers_and_comes_back_from_its_folder(tmp_path: Path) -> None:
    orm, metrics = fitted(HashedOrm)
    assert metrics["pairs"] == 80 and metrics["ties"] == 40 and metrics["accuracy"] == 1
    again, _ = fitted(HashedOrm)
    said = ["it is good", "it is bad", ""]
    assert again.scores(prompt(text="what of 3"), said) == orm.scores(prompt(text="what of 3"), said), "by the seed"
    orm.save(tmp_path)
    loaded = HashedOrm(orm.config)
    loaded.load(tmp_path)
    assert loaded.scores(prompt(text="what of 3"), said) == orm.scores(prompt(text="what of 3"), said)
    with pytest.raises(DataError, match=r"tie_weight=0\.5, now 0\.0"):
        other, _ = fitted(HashedOrm, tie_weight=0.0)
        other.load(tmp_path)
    with pytest.raises(DataError, match="was fitted with estimator=HashedOrm, now Feedback"):
        fitted(Feedback)[0].load(tmp_path)
    with pytest.raises(DataError, match="holds no HashedOrm"):
        loaded.load(tmp_path / "nothing")


def test_ties_are_kept_together_by_their_loss() -> None:
    gaps = {weight: fitted(HashedOrm, tie_weight=weight)[1]["tie_gap"] for weight in (0.0, 5.0)}
    assert gaps[5.0] < 0.7 * gaps[0.0]


def test_feedback_is_a_chance_that_is_not_saturated() -> None:
    feedback, _ = fitted(Feedback)
    good, bad = feedback.scores(prompt(text="what of 3"), ["it is good", "it is bad"])
    assert 0 < bad < 0.5 < good < 1


# ------------------------------------------------------------------------------------------------------------ toy


def test_the_toy_is_what_it_says() -> None:
    made = list(Cases(Cases.Config()).rows(0, seed=1))
    assert len(made) == 8000 and len({row.messages[0]["content"] for row in made}) == 8000
    quality, safety = Quality(Quality.Config()), Safety(Safety.Config(dose=r"(\d)(;)", referral="r", claims=[]))
    right, safe = list[float](), list[float]()
    for row in made[:400]:
        shown = prompt(text=row.messages[0]["content"], meta=dict(row.meta))
        assert quality.judge(shown, answer_of(case_of(row.messages[0]["content"]))).score == 1
        assert safety.judge(shown, str(row.answer)).score == 0
        right.append(quality.judge(shown, str(row.target)).score)
        safe.append(safety.judge(shown, str(row.target)).score)
    assert 0.3 < np.mean(right) < 0.7 and -0.6 < np.mean(safe) < -0.2, "rates of what the base model imitates"
    assert slots_of("no answer") == slots_of("")


# ------------------------------------------------------------------------------------------------- as people write


def test_marks_of_lists_and_headings_assert_nothing(evidence: str) -> None:
    facts = Facts(Facts.Config(judge=judge(f"{TOY}.verify"), evidence=evidence))
    answer = "## Dosage\n1. Take at most 4 g a day.\n2) Avoid alcohol.\n\n**Note**\nSide effects:\n- Nausea"
    answer += "\n- 3 of 100 vomit"
    assert facts.assertions(answer) == ["Take at most 4 g a day.", "Avoid alcohol.", "Nausea", "3 of 100 vomit"]
    assert facts.assertions("4.5 g is too much. Take 2.") == ["4.5 g is too much.", "Take 2."]


def test_answers_may_be_messages_or_whole_conversations() -> None:
    def talk(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "q"}, {"role": "assistant", "content": text}]

    columns = RowColumns(question="q", answer="a", grade=["g"])
    pairs = rows(
        {"q": "q", "chosen": talk("c"), "rejected": talk("r")},
        {"q": "q", "chosen": talk("c")[1:], "rejected": talk("r")[1]},
        {"q": "q", "a": talk("c"), "g": 2},
        {"q": "q", "a": "r", "g": 1},
    )
    known = comparisons_of(pairs, columns)
    assert [(known.answers[i], known.answers[j]) for i, j in known.pairs] == [("c", "r")] * 3
    with pytest.raises(DataError, match="a:0: no text at chosen"):
        comparisons_of(rows({"q": "q", "chosen": talk("c")[:1], "rejected": talk("r")}), columns)


def test_judges_read_what_stands_before_the_question() -> None:
    said = (("system", "On paracetamol."), ("user", "Is it safe?"), ("assistant", "Yes."), ("user", "For children?"))
    asks = prompt(messages=tuple({"role": role, "content": text} for role, text in said))
    assert conversation_of(asks) == (
        "system: On paracetamol.\n\nuser: Is it safe?\n\nassistant: Yes.\n\nuser: For children?"
    )
    assert conversation_of(prompt(text="For children?")) == "For children?"


@pytest.mark.parametrize("value", [0.1, -0.3, 1e9 + 0.1])
def test_rewards_that_are_the_same_for_all_samples_go_with_nothing(value: float) -> None:
    """The mean of eight times 0.1 is not 0.1 in float64."""
    table, same = np.full((16, 3), value), np.repeat([0, 1], 8)
    table[:, 2] = np.arange(16)
    np.testing.assert_array_equal(correlations(table, same), np.eye(3))
    np.testing.assert_array_equal(variance_shares(table, same), [0, 0, 1])
    np.testing.assert_array_equal(flat_shares(table, same), [1, 1, 0])
