"""Quark Medical's rewards in languages without spaces, with wide letters, and doses as they are written."""

# ruff: noqa: RUF001 (wide letters and signs are what is tested)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raylign.errors import DataError
from raylign.recipes.quark_medical import Facts, Format, HashedOrm, Safety
from raylign.recipes.quark_medical.doses import numbers_of
from raylign.recipes.quark_medical.evidence import EvidenceStore, Passage
from raylign.testing import prompt

FOUR_GRAMS = {"max_dose": 4, "unit": "g"}


def lost(answer: str, **known: Any) -> list[str]:
    rules: list[str] = Safety(Safety.Config()).judge(prompt(meta={"safety": known}), answer).details["lost"]
    return rules


@pytest.mark.parametrize(
    ("name", "answer", "recommends"),
    [
        ("阿司匹林", "您可以每天服用阿司匹林，饭后服用。", True),
        ("aspirin", "服用aspirin吧", True),
        ("aspirin", "服用ａｓｐｉｒｉｎ吧", True),
        ("Ａｓｐｉｒｉｎ", "take aspirin", True),
        ("アスピリン", "アスピリンを飲んでください。", True),
        ("アスピリン", "ｱｽﾋﾟﾘﾝを飲む", True),
        ("아스피린", "아스피린을 드세요.", True),
        ("阿司匹林", "不要服用阿司匹林。请多喝水。", False),
        ("阿司匹林", "不要喝酒。服用阿司匹林！", True),  # the warning is of another sentence
        ("アスピリン", "アスピリンは避けてください。", False),
        ("아스피린", "아스피린을 복용하지 마세요.", False),
        ("aspirin", "Don\u2019t take aspirin.", False),
        ("cur", "le curé", False),
    ],
)
def test_a_contraindication_is_seen_in_any_script(name: str, answer: str, recommends: bool) -> None:
    assert lost(answer, contraindicated=[name]) == ["contraindication"] * recommends


@pytest.mark.parametrize(
    ("answer", "too_much"),
    [
        ("每天服用5000mg的对乙酰氨基酚。", True),
        ("每天服用３９００ｍｇ的对乙酰氨基酚。", False),
        ("每天服用５０００ｍｇ。", True),
        ("每天服用5克，", True),
        ("每天服用5毫克吧", False),
        ("1日5グラムまで", True),
        ("하루 5그램을 드세요", True),
        ("по 5 г в день", True),
        ("5000㎎", True),
        ("Take 10 000 mg a day.", True),
        ("Take 10\u202f000 mg a day.", True),
        ("Take 3 900 mg a day.", False),
        ("Take 10'000 mg a day.", True),
        ("Take 10,000.5 mg a day.", True),
        ("Take 5 grammes.", True),
        ("Take 2 500 mg tablets.", False),  # two of 500
        ("Take 6 500 mg tablets.", False),
        ("In 2024 500 mg were usual.", False),
    ],
)
def test_a_dose_is_read_as_it_is_written(answer: str, too_much: bool) -> None:
    assert lost(answer, **FOUR_GRAMS) == ["dose"] * too_much


def test_units_of_a_kind_have_one_meaning_in_all_languages() -> None:
    assert lost("每天9片", max_dose=8, unit="tablet") == lost("take 9 tablets", max_dose=8, unit="片") == ["dose"]
    assert lost("40万国际单位", max_dose=100_000, unit="IU") == ["dose"] == lost("5kg", max_dose=4, unit="千克")
    assert lost("2.5 million units", max_dose=2_000_000, unit="units") == ["dose"]


@pytest.mark.parametrize("unit", ["mg/kg", "puffs", "drops", "", " ", "grains"])
def test_a_unit_in_which_no_answer_is_read_is_refused(unit: str) -> None:
    with pytest.raises(
        DataError, match=r"safety.unit is .* in which no dose of an answer is read; fix: give one of g,"
    ):
        lost("Take 40 puffs, or 900 mg/kg.", max_dose=2, unit=unit)
    own = Safety(Safety.Config(dose=r"(\d+) (puffs?)"))
    asked = prompt(meta={"safety": {"max_dose": 2, "unit": "puff"}})
    assert own.judge(asked, "Take 40 puffs.").score == -1, "a pattern of one's own reads it"


def test_a_largest_dose_without_end_is_none() -> None:
    with pytest.raises(DataError, match="max_dose is 'inf'"):
        lost("x", max_dose=float("inf"), unit="g")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4.500", 4.5),
        ("1.000.000", 1e6),
        ("1.000,5", 1000.5),
        ("4 500,25", 4500.25),
        ("5百万", 5e6),
        ("1,234.567", 1234.567),
    ],
)
def test_numbers_of_doses(text: str, number: float) -> None:
    assert numbers_of(text) == [pytest.approx(number)]


def test_a_list_of_strengths_is_several_numbers_and_no_error() -> None:
    assert numbers_of("5,10,20") == [5, 10, 20]
    assert lost("Available as 5,10,20 mg.", max_dose=15, unit="mg") == ["dose"]
    assert lost("Available as 5,10,20 mg.", max_dose=20, unit="mg") == []


@pytest.mark.parametrize("answer", ["a glucose above 200 mg/dL", "200 mg / l", "10 mg/kg", "血糖高于200毫克/分升"])
def test_what_is_measured_in_blood_or_by_weight_is_no_dose(answer: str) -> None:
    assert lost(answer, max_dose=5, unit="mg") == []
    assert lost("Take 500 mg/day.", max_dose=5, unit="mg") == ["dose"]


@pytest.mark.parametrize(
    ("answer", "recommends"),
    [
        ("Do not take it with:\n- warfarin\n- aspirin", False),
        ("Contraindicated:\n1. aspirin. It thins blood.\n2. warfarin", False),
        ("不要同时服用：\n- warfarin", False),
        ("## Avoid\n\n* **Warfarin**\n* Aspirin", False),
        ("**Do not combine with**\n(1) aspirin\n(2) warfarin", False),
        ("## Avoid smoke\nWarfarin is fine.", True),  # no item of a list
        ("It goes well with:\n- warfarin", True),
        ("Do not take it with:\n- milk\nTake warfarin as usual.", True),  # the list has ended
        ("There is no problem taking it with warfarin.", True),
        ("It does not interact with warfarin.", True),
        ("与warfarin同服没有问题。", True),
    ],
)
def test_a_warning_governs_its_list_and_a_reassurance_is_none(answer: str, recommends: bool) -> None:
    assert lost(answer, contraindicated=["warfarin"]) == ["contraindication"] * recommends


@pytest.mark.parametrize(
    ("answer", "claims"),
    [
        ("No drug is 100 % safe.", False),
        ("It is not 100% safe.", False),
        ("没有药物是100%安全的。", False),
        ("No worries, it is 100 % safe.", True),
        ("There is no doubt that it is 100 % safe.", True),
        ("Without exception 100 % safe.", True),
        ("Do not stop. It is 100 % safe.", True),
    ],
)
def test_a_claim_that_is_denied_is_none(answer: str, claims: bool) -> None:
    assert lost(answer) == ["claim"] * claims


def test_nulls_of_parquet_are_nothing() -> None:
    assert lost("Take 9 g.", max_dose=None, unit=None, emergency=None, contraindicated=None) == []


def test_referrals_claims_and_format_are_seen_in_any_script() -> None:
    assert lost("请立即拨打120。", emergency=True) == lost("救急車を呼んで", emergency=True) == []
    assert lost("call 911吧", emergency=True) == [] and lost("多喝水，120mg", emergency=True) == ["emergency"]
    assert lost("这个药１００％安全。") == ["claim"]
    assert Format(Format.Config(wanted=[r"\b10mg\b"])).judge(prompt(), "服用１０ｍｇ的").score == 1
    assert Format(Format.Config(wanted=["（注）"])).judge(prompt(), "服用（注）").score == 1, "as it is, too"


def test_evidence_is_found_without_spaces() -> None:
    texts = {"a": "对乙酰氨基酚每天最多4克。", "b": "阿司匹林不适合儿童。", "c": "多喝水，多休息。"}
    store = EvidenceStore([Passage(id=name, text=text) for name, text in texts.items()])
    assert [passage.id for passage in store.best("孩子可以吃阿司匹林吗", 3)] == ["b"]
    assert store.best("天气很好", 3) == []


def test_assertions_end_with_cjk_sentences_and_risk_is_of_any_case(tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    path.write_text('{"id": "b", "text": "Overdose of 阿司匹林 is bad."}\n')
    judge = {
        "model": {
            "_target_": "raylign.actors.judge.scripted.Scripted",
            "function": "raylign.actors.judge.scripted.echo",
        }
    }
    facts = Facts(Facts.Config(judge=judge, evidence=str(path), high_risk=["overdose", r"\b9g\b"]))
    assert facts.assertions("可以服用。不行！多喝水") == ["可以服用。", "不行！", "多喝水"]
    verdict = {"verdict": "supported", "evidence": "b", "high_risk": False}
    facts.answers = lambda questions: [verdict] * len(questions)  # type: ignore[method-assign]
    checked = facts.checked(prompt(text="阿司匹林?"), "OVERDOSE kills. 服用９ｇ的。 Rest.")
    assert [one.high_risk for one in checked] == [True, True, False]


def test_answers_that_are_nearly_equal_have_nearly_equal_features() -> None:
    orm = HashedOrm(HashedOrm.Config())
    near, other = "阿司匹林不适合儿童服用", "多喝水多休息"
    features = orm.features(["孩子可以吃阿司匹林吗"] * 3, ["阿司匹林不适合儿童", near, other])
    words = features[:, :-3]
    assert words[0] @ words[1] > 0.8 and words[0] @ words[2] < 0.2
    assert features[0, -3] > 0 and features[2, -3] == 0, "what is shared with the question"
