"""Parsing of behaviours, and the table that is made of a history; real solutions of GSM8K."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inject_rbp_cases import COLUMNS, HISTORY, parser, rows, table

from raylign.contracts import PlacedRow
from raylign.errors import DataError
from raylign.recipes.inject_rbp.behaviours import Prefer, Separator, checked_chain
from raylign.recipes.inject_rbp.patterns import counts_of, frequencies
from raylign.recipes.inject_rbp.table import PatternTable
from raylign.recipes.inject_rbp.values import ValueEstimate

BOX = r"\boxed{5}"


# ------------------------------------------------------------------------------------------------------- behaviours


@pytest.mark.parametrize(
    ("text", "chain"),
    [
        ("Okay, so we need the sum.\n\nFirst, add 2 and 3.\n\nNow double it.\n\nWait, is that right?", "OPPV"),
        ("The sum.\n\nAdd.\n\n\n \n\nAlternatively, count up.\n\nSo far, 5.\n\n**The answer is 5.**", "OPESC"),
        ("One paragraph\nof two lines", "O"),
        ("", ""),
        ("<think>\nOkay, a.\n\nHmm, b.\n</think>\n\nFinal answer: 5", "OEC"),
        ("Okay.\r\n\r\nNext, b.\r\n\r\nLet me check b.", "OPV"),
        (f"a\n\nWe carry on and get in the end {BOX}.", "OC"),  # the last paragraph, by its box
        (f"a\n\nWe carry on and get in the end {BOX}.\n\nDone", "OPP"),  # which has to be the last
        ("a\n\nb\n\nThe sum of them all is 5", "OPP"),  # no box: a number is no conclusion
        ("a\n\nLet\u2019s check.\n\nVerification: 5 = 5", "OVV"),
        ("a\n\nThe waiter nowhere thenceforth", "OP"),  # parts of words are no markers
        ("a\n\nIt is a long way until we wait", "OP"),  # the seventh word
    ],
)
def test_paragraphs_are_named_by_their_first_words(text: str, chain: str) -> None:
    assert parser().chain(text) == chain


def test_of_several_markers_the_longest_or_the_first_in_order_counts() -> None:
    text = "x\n\nAlternatively, wait a bit\n\nNow let me check"
    assert parser().chain(text) == "OEV" and parser(prefer=Prefer.priority).chain(text) == "OVV"
    assert parser().chain("a\n\nOkay then now") == "OO", "of equally long ones the first of C, V, E, S, O, P"


def test_words_and_separator_can_be_ones_own() -> None:
    own = parser(separator=Separator.newline, lexicon={"P": ["p*"], "V": ["look again"], "O": []})
    assert own.chain("1Pqdcf\n2 LOOK  again\nokay") == "PVP"
    with pytest.raises(ValueError, match=r"'X' is no behaviour; choose from O, P, S, E, V, C"):
        parser(lexicon={"X": ["x"]})
    with pytest.raises(ValueError, match=r"lexicon.P holds an empty marker"):
        parser(lexicon={"P": ["*"]})


def test_a_strange_symbol_is_told_with_its_place() -> None:
    assert checked_chain("OPVC", "a:1") == "OPVC"
    with pytest.raises(DataError, match=r"a.jsonl:7: the chain 'OPXC' holds 'X', which is none of .*; fix: "):
        checked_chain("OPXC", "a.jsonl:7")


# ------------------------------------------------------------------------------------------------------------ table


def test_what_is_said_of_a_history() -> None:
    made = PatternTable(PatternTable.Config(**COLUMNS))  # type: ignore[arg-type]
    metrics = made.fit(rows(HISTORY), seed=1)
    assert (metrics["traces"], metrics["unscored"]) == (43, 1), "absent is not zero"
    assert (metrics["families"], metrics["families_without_right"]) == (3, 1)
    assert metrics["right"] == pytest.approx(20 / 43) and metrics["right/a"] == 0.5 and metrics["right/c"] == 0
    assert metrics["structured"] == 1 and metrics["concluded/c"] == 0 and metrics["longest"] == 4
    assert metrics["js/outcome"] > 0 and metrics["p/outcome"] == pytest.approx(0.01)
    assert {"p_within_question/outcome", "js/families/a", "p/families/a", "entropy", "entropy/a", "backed_off"} <= set(
        metrics
    )
    assert "entropy/c" not in metrics and made.of_question("c") is made.of_question("never seen") is made.whole
    assert made.of_question("a").right == ("OPVC",) * 12


def test_a_table_comes_back_with_its_settings(tmp_path: Path) -> None:
    made = table(values=ValueEstimate.fqi, gamma=0.9)
    made.save(tmp_path)
    again = PatternTable.of(tmp_path)
    assert again.config.gamma == 0.9 and again.traces == made.traces
    np.testing.assert_array_equal(again.whole.values.q, made.whole.values.q)
    with pytest.raises(DataError, match=r"was fitted with gamma=0.9, now 0.98; fix: "):
        PatternTable(PatternTable.Config(**{**COLUMNS, "values": made.config.values})).load(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="holds no pattern table"):
        PatternTable.of(tmp_path / "nowhere")
    more = PatternTable(PatternTable.Config(**{**COLUMNS, "after": str(tmp_path)}))  # type: ignore[arg-type]
    assert more.fit(rows([("a", "OPVPVC", 1.0)]), seed=1)["traces"] == 44


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        ({"score": "yes"}, {}, "h:0: score is no number, but 'yes'"),
        ({"chain": "OPXC"}, {}, r"h:0: the chain 'OPXC' holds 'X'"),
        ({"chain": None}, {}, "h:0: no text at chain, but 'None'"),
        ({"family": 3}, {}, "h:0: family is no text, but '3'; fix: set `by`"),
        ({"question": None}, {}, "h:0: no question at question, but 'None'; fix: set `question`"),
        ({"score": 0.0}, {}, r"none of 1 traces is right \(score >= 0.5\).*fix: easier questions"),
        ({"score": None}, {}, "none of 1 rows has a score at score; fix: set `score`"),
        ({"chain": "OC"}, {}, "none of 1 traces has 3 paragraphs; fix: set behaviours.separator=newline"),
        ({"text": 5}, {"chain": "", "text": "text"}, "h:0: no text at text, but '5'; fix: set `text`"),
    ],
)
def test_a_history_that_teaches_nothing_is_refused(row: Any, settings: Any, message: str) -> None:
    columns = {"chain": "OPVC", "score": 1.0, "family": "a", "question": "q", **row}
    with pytest.raises(DataError, match=message):
        PatternTable(PatternTable.Config(**{**COLUMNS, **settings})).fit([PlacedRow("h:0", columns)], seed=1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"gamma": 0.0}, "gamma=0.0: set it above 0 and to at most 1"),
        ({"gamma": 1.5}, "gamma=1.5"),
        ({"tau": 0.0}, "tau is 0.0, set it above 0"),
        ({"kappa": -1.0}, "kappa is -1.0, set it to 0 or more"),
        ({"permutations": 0}, "permutations is 0"),
    ],
)
def test_impossible_settings_of_a_table(setting: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PatternTable.Config(**setting)


def test_real_solutions(shared_data: Callable[[str], Path]) -> None:
    """Test D of the digest on 660 questions of GSM8K, answered by four models."""
    lines = [json.loads(line) for line in shared_data("gsm8k/model_solutions.jsonl").read_text().splitlines()]
    models = [name for name in lines[0] if isinstance(lines[0][name], dict)]
    answers = [
        PlacedRow(f"{row}:{model}", {**line[model], "question": line["question"], "model": model})
        for row, line in enumerate(lines)
        for model in models
    ]
    assert len(models) == 4 and len(answers) == 2640
    settings = {"text": "solution", "score": "is_correct", "by": "model", "question": "question", "permutations": 199}
    blank = PatternTable(PatternTable.Config(**settings))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"none of 2640 traces has 3 paragraphs; fix: .*separator=newline"):
        blank.fit(answers, seed=1)
    behaviours = {
        "_target_": "raylign.recipes.inject_rbp.BehaviourParser",
        "separator": "newline",
        "lexicon": {"C": ["a:"]},
    }
    made = PatternTable(PatternTable.Config(**settings, behaviours=behaviours))  # type: ignore[arg-type]
    metrics = made.fit(answers, seed=1)
    chains = [trace.chain for trace in made.traces]
    assert frequencies(chains).sum() == sum(max(0, len(chain) - 2) for chain in chains) > 4000
    assert counts_of(chains).sum() == frequencies(chains).sum()
    assert metrics["structured"] > 0.7 and metrics["concluded"] > 0.95
    assert metrics["js/outcome"] > 0 and metrics["p/outcome"] < 0.05
    assert all(0 < metrics[f"p/families/{model}"] <= 1 for model in models)
