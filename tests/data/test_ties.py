"""Which rows of pairs are ties, which contradict themselves, and what becomes of ties where they mean nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from raylign.config.schema import DataConfig
from raylign.data.identity import identity_of_rows
from raylign.data.pair_rows import pair_text
from raylign.data.pairs import PairSet, Truncation, load_pairs
from raylign.data.scored import scored_pairs
from raylign.errors import DataError

ROW = {"prompt": "Hi", "chosen": "yes", "rejected": "no"}


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.mark.parametrize(
    ("columns", "tie"),
    [
        ({"tie": True}, True),
        ({"tie": 1}, True),
        ({"tie": 1.0}, True),
        ({"tie": "Yes"}, True),
        ({"is_tie": "tie"}, True),
        ({"winner_tie": 1, "winner_model_a": 0}, True),
        ({"winner": "tie"}, True),
        ({"winner": "tie (bothbad)"}, True),
        ({"preference": " Draw "}, True),
        ({"label": "same", "tie": None}, True),
        ({"tie": True, "winner": "tie", "chosen_score": 3, "rejected_score": 3}, True),
        ({}, False),
        ({"tie": False}, False),
        ({"tie": 0.0}, False),
        ({"tie": None}, False),
        ({"tie": float("nan")}, False),
        ({"tie": ""}, False),
        ({"winner": "model_a"}, False),
        ({"winner": "chosen", "tie": "no"}, False),
        ({"label": 0}, False),
        ({"preference": None}, False),
    ],
)
def test_a_row_says_whether_it_is_a_tie(columns: dict[str, Any], tie: bool) -> None:
    pair = pair_text({**ROW, **columns}, "here:1")
    assert pair is not None and pair.tie is tie


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tie": 0.5}, "tie=0.5 is neither true nor false"),
        ({"tie": "maybe"}, "tie='maybe' is neither true nor false"),
        ({"tie": True, "winner": "chosen"}, "tie=True and winner='chosen' contradict each other"),
        ({"tie": False, "winner": "tie"}, "tie=False and winner='tie' contradict each other"),
        ({"tie": True, "is_tie": 0}, "contradict each other"),
        ({"winner": "rejected"}, "winner=rejected, so the pair is turned round"),
        ({"tie": True, "chosen_score": 4, "rejected_score": 3}, r"neither answer is better, and chosen_score=4"),
        ({"tie": True, "score_chosen": 1, "score_rejected": 2}, r"neither answer is better, and score_chosen=1"),
    ],
)
def test_a_row_that_contradicts_itself_is_named(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"here:1: .*{message}"):
        pair_text({**ROW, **columns}, "here:1")


def load(path: Path, rows: list[dict[str, Any]], tokenizer: Any, ties: bool, **data: Any) -> PairSet:
    path.write_text("\n".join(map(json.dumps, rows)))
    config = DataConfig(path=str(path), **{"holdout": 0, "max_prompt_tokens": 16, **data})
    return load_pairs(config, tokenizer, 64, Truncation.drop, 1, ties=ties)


def test_a_row_that_a_stage_wrote_says_it_in_its_meta() -> None:
    meta = {"chosen": "yes", "rejected": "no", "tie": True}
    written = {
        "raylign": 1,
        "messages": [{"role": "user", "content": "Hi"}],
        "verifier": "",
        "domain": "d",
        "meta": meta,
    }
    pair = pair_text(written, "here:1")
    assert pair is not None and pair.tie and pair.domain == "d"
    with pytest.raises(DataError, match="neither answer is better"):
        pair_text({**written, "meta": {**meta, "chosen_score": 1.0, "rejected_score": 0.5}}, "here:1")


ROWS = [
    ROW,
    {"prompt": "a", "chosen": "x", "rejected": "y", "tie": True},
    {"prompt": "a", "chosen": "y", "rejected": "x", "tie": True},  # the same tie, said the other way round
    {"prompt": "b", "chosen": "x", "rejected": "y"},
    {"prompt": "b", "chosen": "y", "rejected": "x"},  # another one's opinion
]


def test_ties_are_kept_for_who_reads_them_and_dropped_with_a_count_for_who_does_not(
    tmp_path: Path, tokenizer: Any
) -> None:
    kept = load(tmp_path / "a.jsonl", ROWS, tokenizer, ties=True)
    assert [pair.tie for pair in kept.train] == [False, True, False, False]
    assert (kept.report.same, kept.report.ties) == (1, 2) and "2 of the rows are ties" in str(kept.report)
    dropped = load(tmp_path / "a.jsonl", ROWS, tokenizer, ties=False)
    assert [pair.tie for pair in dropped.train] == [False] * 3
    assert "2 ties" in str(dropped.report)
    with pytest.raises(DataError, match="2 are ties"):
        load(tmp_path / "a.jsonl", ROWS[1:3], tokenizer, ties=False)


def test_a_score_is_read_behind_the_end_of_the_answer(tmp_path: Path, tokenizer: Any) -> None:
    rows = scored_pairs(load(tmp_path / "a.jsonl", ROWS[:2], tokenizer, ties=True).train)
    assert [row.numbers["tie"] for row in rows] == [0, 0, 1, 1]
    for row, text in zip(rows, ("yes", "no", "x", "y"), strict=True):
        answer = row.token_ids[row.prompt_length : -1]
        assert tokenizer.decode(answer) == text + tokenizer.eos_token
        assert np.flatnonzero(row.loss_mask).tolist() == [len(row.token_ids) - 1]


def test_a_pair_that_became_a_tie_is_other_data(tmp_path: Path, tokenizer: Any) -> None:
    changed = [ROW, {**ROWS[1], "tie": False}]
    sets = [load(tmp_path / "a.jsonl", rows, tokenizer, ties=True) for rows in (ROWS[:2], changed)]
    first, second = (identity_of_rows(scored_pairs(pairs.train)).fingerprint for pairs in sets)
    assert first != second


def test_domains_come_from_the_column_that_is_named(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{**ROW, "source": {"name": "med"}}]
    pairs = load(tmp_path / "a.jsonl", rows, tokenizer, ties=True, domain_key="source.name")
    assert pairs.train[0].prompt.domain == "med"
    with pytest.raises(DataError, match=r"a\.jsonl:1: no text at data.domain_key=topic"):
        load(tmp_path / "a.jsonl", rows, tokenizer, ties=True, domain_key="topic")
