"""The report of an experiment: a claim fails when its number does, and the file says all that was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from benchmarks.experiments.report import SIMULATED, Claim, largest, least, positive, write


@pytest.mark.parametrize(
    ("value", "threshold", "relation", "passed"),
    [
        (0.10, 0.10, ">=", True),
        (0.10, 0.10, ">", False),
        (0.09, 0.10, "<", True),
        (0.10, 0.10, "<=", True),
        (1.0, 1.0, "==", True),
        (0.46, (0.44, 0.48), "within", True),
        (0.49, (0.44, 0.48), "within", False),
        (math.nan, 0.0, ">=", False),
        (math.nan, 0.0, "<=", False),
        (math.nan, (0.0, 1.0), "within", False),
        (math.inf, 0.0, ">=", False),
        (-math.inf, 0.0, "<", False),
    ],
)
def test_a_claim_holds_or_not(value: float, threshold: float, relation: str, passed: bool) -> None:
    assert Claim(name="x", value=value, threshold=threshold, relation=relation).passed is passed


def test_a_threshold_and_its_relation_go_together() -> None:
    with pytest.raises(ValueError, match="do not go together"):
        Claim(name="x", value=1.0, threshold=1.0)
    with pytest.raises(ValueError, match="within"):
        Claim(name="x", value=1.0, threshold=1.0, relation="within")
    with pytest.raises(ValueError):
        Claim(name="x", value=1.0, threshold=1.0, relation="=>")


def test_a_gain_is_positive_when_chance_over_seeds_does_not_explain_it() -> None:
    clear = positive("x", [0.1, 0.2, 0.3], "wished .1", how=SIMULATED)
    assert clear.passed and clear.value == pytest.approx(0.2 - 2 * 0.1 / 3**0.5)
    assert clear.note.endswith("(seeds 0.100, 0.200, 0.300); wished .1; simulated")
    assert not positive("x", [0.0, 0.0, 0.9]).passed
    assert not positive("x", [0.9]).passed, "one seed proves nothing"


def test_the_largest_and_the_least_of_figures_do_not_pass_over_what_is_none() -> None:
    assert (largest([0.0, 2, -1.0]), least([0.0, 2, -1.0])) == (2.0, -1.0)
    for place in range(3):
        figures = [0.0, 0.0, 0.0]
        figures[place] = math.nan
        assert math.isnan(largest(figures)) and math.isnan(least(figures))


def test_one_failed_claim_fails_the_experiment_and_all_numbers_are_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claims = [
        Claim(name="good", value=2.0, threshold=1.0, relation=">"),
        Claim(name="bad", value=0.0, threshold=1.0, relation=">"),
        Claim(name="seen", value=0.5),
    ]
    assert write("toy", claims[:1], {"seeds": [1]}, tmp_path)
    assert not write("toy", claims, {"seeds": [1, 2]}, tmp_path)
    report = json.loads((tmp_path / "toy.json").read_text())
    assert not report["passed"]
    assert [(claim["name"], claim["value"], claim["passed"]) for claim in report["claims"]] == [
        ("good", 2.0, True),
        ("bad", 0.0, False),
        ("seen", 0.5, True),
    ]
    assert report["settings"] == {"seeds": [1, 2]}
    assert "FAIL" in capsys.readouterr().out


def test_an_experiment_without_a_threshold_or_with_two_claims_of_one_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no claim has a threshold"):
        write("toy", [Claim(name="seen", value=0.5)], {}, tmp_path)
    with pytest.raises(ValueError, match="same name"):
        write("toy", [Claim(name="x", value=1.0, threshold=0.0, relation=">")] * 2, {}, tmp_path)
