"""The rewards of Quark Medical from the digest's formulas: rubric, facts, and the ORM's losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raylign.objectives.loss.bradley_terry import TieSign
from raylign.recipes.quark_medical import HashedOrm
from raylign.recipes.quark_medical.facts import Checked, Verdict, fact_score
from raylign.recipes.quark_medical.pairwise import pair_loss
from raylign.recipes.quark_medical.rubric import Item, ItemGroup, Scoring, activated, rubric_score, scaled

E, P = ItemGroup.essential, ItemGroup.pitfall
IMP, H = ItemGroup.important, ItemGroup.highlight
RUBRIC = [
    Item(id="e1", group=E, text="-", weight=2.0),
    Item(id="e2", group=E, text="-", weight=1.0),
    Item(id="i1", group=IMP, text="-", weight=0.25, tag="a"),
    Item(id="i2", group=IMP, text="-", weight=0.25, tag="b"),
    Item(id="h1", group=H, text="-", weight=0.5, tag="a"),
    Item(id="p1", group=P, text="-", weight=1.0),
]
PLAIN = Scoring(truncation=False, saturation=0.0)


def test_the_hand_example_is_min_max_over_what_can_be_had() -> None:
    """Attainable: E 6, I 1, H 1, P 2; w = 2:1:1:2; V between -4 and 14."""
    grades = {"e1": 2, "e2": 1, "i1": 2, "i2": 0, "h1": 1, "p1": 1}
    v = 2 * (4 + 1) + 0.5 + 0.5 - 2 * 1
    assert rubric_score(RUBRIC, grades, PLAIN) == pytest.approx((v + 4) / 18)
    best = {"e1": 2, "e2": 2, "i1": 2, "i2": 2, "h1": 2, "p1": 0}
    worst = {"e1": 0, "e2": 0, "i1": 0, "i2": 0, "h1": 0, "p1": 2}
    assert rubric_score(RUBRIC, best, Scoring()) == 1 and rubric_score(RUBRIC, worst, Scoring()) == 0


@pytest.mark.parametrize(
    ("grades", "lesser_count"),
    [
        ({"e1": 1, "e2": 1, "p1": 0}, True),  # S_essen 3 of 6: not below half
        ({"e1": 1, "e2": 0, "p1": 0}, False),
        ({"e1": 2, "e2": 2, "p1": 1}, True),  # S_pit 1 of 2: not above half
        ({"e1": 2, "e2": 2, "p1": 2}, False),
    ],
)
def test_truncation(grades: dict[str, int], lesser_count: bool) -> None:
    scoring = Scoring(saturation=0.0)
    with_lesser = rubric_score(RUBRIC, {**grades, "i1": 2, "i2": 2, "h1": 2}, scoring)
    without = rubric_score(RUBRIC, {**grades, "i1": 0, "i2": 0, "h1": 0}, scoring)
    assert with_lesser - without == pytest.approx(2 / 18 if lesser_count else 0.0)


def test_saturation_caps_padding_by_tag_and_in_all() -> None:
    items = [Item(id="e", group=E, text="-", weight=1.0)]
    items += [Item(id=f"i{n}", group=IMP, text="-", weight=1.0, tag="ab"[n % 2]) for n in range(4)]
    items += [Item(id=f"h{n}", group=H, text="-", weight=1.0, tag="abc"[n]) for n in range(3)]
    none = {item.id: 2 * (item.id == "e") for item in items}
    scoring = Scoring(saturation=1.0)
    top = 2 * 2 + 2 + 2  # E 2 points; I two tags of 1; H three tags of 1, capped at 2

    def gain(**grades: int) -> float:
        return (rubric_score(items, {**none, **grades}, scoring) - rubric_score(items, none, scoring)) * top

    assert gain(i0=1) == pytest.approx(1) and gain(i0=2) == pytest.approx(1), "a tag counts at most L"
    assert gain(i0=2, i2=2) == pytest.approx(1) and gain(i0=2, i1=2) == pytest.approx(2)
    assert gain(h0=1, h1=1) == pytest.approx(2) and gain(h0=1, h1=1, h2=1) == pytest.approx(2)


def test_items_without_a_tag_do_not_saturate_together() -> None:
    essential = Item(id="e", group=E, text="-", weight=1.0)
    plain = [Item(id=f"i{n}", group=IMP, text="-", weight=1.0) for n in range(5)]
    own = [Item(id=f"i{n}", group=IMP, text="-", weight=1.0, tag=f"t{n}") for n in range(5)]
    half = {"e": 2, "i0": 1, **{f"i{n}": 0 for n in range(1, 5)}}
    full = {"e": 2, **{f"i{n}": 2 for n in range(5)}}
    scoring = Scoring(saturation=1.0)
    of_plain, of_own = (
        [rubric_score([essential, *items], grades, scoring) for grades in (half, full)] for items in (plain, own)
    )
    assert of_plain == of_own == pytest.approx([5 / 6, 1.0]), "2 x 2 points of E, 1 of I, of 6 to be had"
    assert rubric_score([essential, *plain], {**half, "i1": 1}, scoring) == 1.0, "two items, as two tags"


def test_activation_and_scaling() -> None:
    assert activated([0.5, 0.52, 0.9, 0.44], 0.05) == pytest.approx([0.51, 0.51, 0.9, 0.44])
    chain = activated([0.0, 0.04, 0.08, 0.12], 0.05)
    assert chain == pytest.approx([0.02, 0.02, 0.1, 0.1]), "near is not transitive: no level is wider than L_act"
    assert activated([0.5, 0.5001], 0.0) == [0.5, 0.5001]
    assert scaled(0.6, 0.7, 2.0) == 0.6 and scaled(0.8, 0.7, 2.0) == pytest.approx(0.9)
    assert scaled(0.8, None, 2.0) == 0.8


def test_no_points_to_be_had() -> None:
    with pytest.raises(ValueError, match="no positive item with a weight"):
        rubric_score([RUBRIC[-1]], {"p1": 0}, Scoring())
    with pytest.raises(ValueError, match="no positive item with a weight"):
        rubric_score(RUBRIC, {item.id: 0 for item in RUBRIC}, Scoring(essential=0, important=0, highlight=0))


@pytest.mark.parametrize(
    ("verdicts", "wanted"),
    [
        ("sss", 1.0),
        ("ssu", 2 / 3),
        ("sc", -0.5),
        ("cc", -1.0),  # -2, clipped
        ("sssssR", -1.0),  # contradicted, of high risk
        ("sssssr", 1.0),  # of high risk, and supported
        ("ssssc", 0.4),
        ("u", 0.0),
        ("", 0.0),
    ],
)
def test_facts(verdicts: str, wanted: float) -> None:
    kinds = {"s": Verdict.supported, "c": Verdict.contradicted, "u": Verdict.unverifiable}
    kinds |= {"R": Verdict.contradicted, "r": Verdict.supported}
    checked = [Checked(text="-", verdict=kinds[kind], high_risk=kind in "Rr") for kind in verdicts]
    assert fact_score(checked) == pytest.approx(wanted)


# ------------------------------------------------------------------------------------------------------------- ORM


def loss(gaps: list[float], ties: list[float], **settings: object) -> float:
    config = HashedOrm.Config(**settings)  # type: ignore[arg-type]
    return float(pair_loss(torch.tensor(gaps, dtype=torch.float64), torch.tensor(ties, dtype=torch.float64), config))


def log_sigmoid(x: float) -> float:
    return float(-np.log1p(np.exp(-x)))


def test_both_losses_as_they_are_written() -> None:
    gaps, ties = [1.5, -0.5, 0.2], [0.7, 0.0]
    plain = -np.mean([log_sigmoid(gap) for gap in gaps])
    corrected = -np.mean([log_sigmoid(0.0 - gap) for gap in ties])
    printed = -np.mean([log_sigmoid(gap) for gap in ties])
    assert loss(gaps, ties) == pytest.approx(plain + 0.5 * corrected)
    assert loss(gaps, ties, tie_weight=2.0, tie_sign=TieSign.printed) == pytest.approx(plain + 2 * printed)
    assert loss(gaps, ties, tie_weight=0.0) == pytest.approx(plain) == pytest.approx(loss(gaps, []))
    with_margin = -np.mean([log_sigmoid(0.3 - gap) for gap in ties])
    assert loss(gaps, ties, margin=0.3) == pytest.approx(plain + 0.5 * with_margin)
    apart = -np.mean([log_sigmoid(gap - 0.3) for gap in gaps])
    assert loss(gaps, ties, margin=0.3, margin_in_pairs=True) == pytest.approx(apart + 0.5 * with_margin)


def test_the_printed_sign_pushes_ties_apart_and_the_corrected_one_together() -> None:
    for sign, direction in ((TieSign.corrected, 1), (TieSign.printed, -1)):
        near, far = (loss([1.0], [gap], tie_sign=sign) for gap in (0.1, 2.0))
        assert np.sign(far - near) == direction
    assert loss([1.0], [0.0]) < min(loss([1.0], [gap]) for gap in (0.01, 0.5, 3.0))
