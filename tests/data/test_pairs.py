"""Pairs from every layout of TRL's columns, with one boundary, within their limits, no held-out prompt in training."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from raylign.batch import Batch
from raylign.config.resolve import Run
from raylign.config.schema import Config as RunSettings
from raylign.config.schema import DataConfig
from raylign.data.pair_rows import pair_text, read_pairs
from raylign.data.pairs import Pair, PairSet, Truncation, load_pairs, rows_of_pairs
from raylign.data.score_cache import ScoreCache, fingerprint
from raylign.errors import DataError
from raylign.recipes.stages.preference import Preference
from raylign.records import Prompt

USER = {"role": "user", "content": "Hi"}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


LAYOUTS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "Hi", "chosen": "yes", "rejected": "no"},
    "prompt messages, answer messages": {"prompt": [USER], "chosen": [said("yes")], "rejected": [said("no")]},
    "prompt text, answer messages": {"prompt": "Hi", "chosen": [said("yes")], "rejected": [said("no")]},
    "prompt messages, answer texts": {"prompt": [USER], "chosen": "yes", "rejected": "no"},
    "whole conversations": {"chosen": [USER, said("yes")], "rejected": [USER, said("no")]},
    "ultrafeedback": {"prompt": "Hi", "chosen": [USER, said("yes")], "rejected": [USER, said("no")], "score": 1.0},
    "hh-rlhf": {"chosen": "\n\nHuman: Hi\n\nAssistant: yes", "rejected": "\n\nHuman: Hi\n\nAssistant: no"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_pair(layout: str) -> None:
    pair = pair_text(LAYOUTS[layout], "here:1")
    assert pair is not None
    assert [dict(message) for message in pair.messages] == [USER]
    assert (pair.chosen, pair.rejected) == ("yes", "no")


def test_a_dialogue_is_split_at_its_last_answer() -> None:
    start = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    pair = pair_text({"chosen": f"{start} yes", "rejected": f"{start} no"}, "here:1")
    assert pair is not None
    assert [message["role"] for message in pair.messages] == ["user", "assistant", "user"]
    assert pair.chosen == "yes"


def test_conversations_without_a_common_prompt_make_no_pair() -> None:
    row = {"chosen": "\n\nHuman: a\n\nAssistant: yes", "rejected": "\n\nHuman: b\n\nAssistant: no"}
    assert pair_text(row, "here:1") is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Hi", "chosen": "yes"}, "needs columns chosen and rejected"),
        ({"chosen": "yes", "rejected": "no"}, "no turns marked"),
        ({"chosen": "yes", "rejected": [said("no")]}, "not of one kind"),
        ({"chosen": [USER], "rejected": [USER]}, "does not end with an answer"),
        ({"chosen": [said("yes")], "rejected": [said("no")]}, "there is no prompt"),
    ],
)
def test_a_row_that_is_no_pair_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"here:1.*{message}"):
        pair_text(row, "here:1")


@pytest.mark.parametrize(
    ("better", "worse"),
    [("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen-rating", "rejected-rating")],
)
def test_a_pair_that_its_own_scores_turn_round_is_refused(better: str, worse: str) -> None:
    row = LAYOUTS["texts"]
    with pytest.raises(DataError, match=f"here:1: {worse}=5 is above {better}=1.5, so the pair is turned round"):
        pair_text({**row, better: 1.5, worse: "5"}, "here:1")
    for scores in ({better: 5, worse: 5}, {better: 5, worse: 1}, {better: 1}, {better: None, worse: 1}):
        assert pair_text({**row, **scores}, "here:1") is not None


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.gz", "pairs.parquet"])
def test_files_of_every_kind(tmp_path: Path, name: str) -> None:
    pairs = list(read_pairs(write(tmp_path / name, [LAYOUTS["ultrafeedback"]] * 3)))
    assert [pair and pair.rejected for pair in pairs] == ["no"] * 3


def load(path: Path, tokenizer: Any, max_tokens: int = 64, mode: Truncation = Truncation.left, **data: Any) -> PairSet:
    config = DataConfig(path=str(path), **{"holdout": 0, "max_prompt_tokens": 16, **data})
    return load_pairs(config, tokenizer, max_tokens, mode, seed=1)


def test_both_answers_follow_the_same_prompt_ids_and_end_with_the_end_token(tmp_path: Path, tokenizer: Any) -> None:
    pairs = load(write(tmp_path / "a.jsonl", [LAYOUTS["texts"]]), tokenizer)
    [pair] = pairs.train
    rendered = tokenizer.apply_chat_template([USER], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert pair.prompt.token_ids.tolist() == rendered
    assert tokenizer.decode(pair.chosen) == "yes" + tokenizer.eos_token
    chosen, rejected = rows_of_pairs(pairs.train)
    assert chosen.group == rejected.group == 0
    assert chosen.token_ids[chosen.loss_mask].tolist() == pair.chosen.tolist()
    assert rejected.token_ids[rejected.loss_mask].tolist() == pair.rejected.tolist()


def test_a_long_prompt_keeps_its_end_and_a_long_answer_its_beginning(tmp_path: Path, tokenizer: Any) -> None:
    row = {"prompt": "p" * 40 + "XYZ", "chosen": "c" * 60, "rejected": "r"}
    [pair] = load(write(tmp_path / "a.jsonl", [row]), tokenizer).train
    prompt = tokenizer.decode(pair.prompt.token_ids)
    assert len(pair.prompt.token_ids) == 16
    assert "XYZ" in prompt and "<|user|>" not in prompt
    assert len(pair.chosen) == 64 - 16
    assert tokenizer.eos_token_id not in pair.chosen
    assert pair.rejected[-1] == tokenizer.eos_token_id


def test_truncation_drop_leaves_long_pairs_out_and_counts_them(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": "p", "chosen": "c" * 100, "rejected": "r"}, LAYOUTS["texts"]]
    pairs = load(write(tmp_path / "a.jsonl", rows), tokenizer, mode=Truncation.drop)
    assert (len(pairs.train), pairs.report.too_long, pairs.report.cut) == (1, 1, 0)


def test_equal_answers_and_repeated_pairs_are_dropped_and_counted(tmp_path: Path, tokenizer: Any) -> None:
    same_when_cut = {"prompt": "p", "chosen": "c" * 99 + "1", "rejected": "c" * 99 + "2"}
    rows = [LAYOUTS["texts"], LAYOUTS["texts"], {"prompt": "q", "chosen": "a", "rejected": "a"}, same_when_cut]
    pairs = load(write(tmp_path / "a.jsonl", rows), tokenizer)
    assert (len(pairs.train), pairs.report.rows, pairs.report.same) == (1, 4, 3)


def test_no_prompt_is_both_trained_and_held_out(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": f"p{i % 10}", "chosen": f"c{i}", "rejected": "r"} for i in range(40)]
    path = write(tmp_path / "a.jsonl", rows)
    pairs = load(path, tokenizer, holdout=6)
    held = {pair.prompt.id for pair in pairs.holdout}
    assert len(pairs.holdout) == 6
    assert not held & {pair.prompt.id for pair in pairs.train}
    assert pairs.report.leaked == 40 - 6 - len(pairs.train) > 0
    again = load_pairs(DataConfig(path=str(path), holdout=6), tokenizer, 64, Truncation.left, seed=2)
    assert [p.chosen.tolist() for p in again.holdout] == [p.chosen.tolist() for p in pairs.holdout]


def test_size_keeps_the_first_rows_and_a_system_message_stands_first(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": f"p{i}", "chosen": "c", "rejected": "r"} for i in range(9)]
    pairs = load(write(tmp_path / "a.jsonl", rows), tokenizer, size=4, system="S")
    assert (pairs.report.rows, len(pairs.train)) == (4, 4)
    assert tokenizer.decode(pairs.train[0].prompt.token_ids).startswith("<|system|>S")


def test_real_pairs(shared_data: Callable[[str], Path], tokenizer: Any) -> None:
    pairs = load(shared_data("hh_rlhf/harmless_base.jsonl.gz"), tokenizer, 128, holdout=100, max_prompt_tokens=64)
    assert pairs.report.unpaired == 1
    assert len(pairs.train) + len(pairs.holdout) + pairs.report.leaked + pairs.report.same == pairs.report.rows - 1
    assert all(len(p.prompt.token_ids) + max(len(p.chosen), len(p.rejected)) <= 128 for p in pairs.train)


# ------------------------------------------------------------------------------------------------- the score cache


def rows_of(count: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    pairs = [
        Pair(
            prompt=Prompt(id=str(i), messages=(), token_ids=rng.integers(0, 99, 3).astype(np.int32)),
            chosen=rng.integers(0, 99, rng.integers(1, 6)).astype(np.int32),
            rejected=rng.integers(0, 99, rng.integers(1, 6)).astype(np.int32),
        )
        for i in range(count)
    ]
    return Batch.from_rows(rows_of_pairs(pairs))


def test_scores_come_back_for_the_same_tokens_in_any_order_and_for_no_others(tmp_path: Path) -> None:
    rows = rows_of(8)
    stream = np.where(rows["loss_mask"], np.random.default_rng(1).normal(size=rows.tokens), 0).astype(np.float32)
    cache = ScoreCache(tmp_path, {"model": "a"})
    cache.store(rows.select(range(10)), stream[: rows.offsets[10]])
    assert [row is not None for row in cache.find(rows)] == [True] * 10 + [False] * 6
    with pytest.raises(KeyError, match="6 of 16 rows"):
        cache.stream(rows)
    cache.store(rows.select(range(10, 16)), stream[rows.offsets[10] :])
    order = np.random.default_rng(2).permutation(16)
    shuffled = rows.with_streams(ref_logprob=stream).select(order)
    assert np.array_equal(ScoreCache(tmp_path, {"model": "a"}).stream(shuffled), shuffled["ref_logprob"])
    assert ScoreCache(tmp_path, {"model": "b"}).find(rows) == [None] * 16
    assert cache.find(rows_of(2, seed=9)) == [None] * 4


def test_a_shard_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, {"model": "a"})
    (cache.folder / "broken.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match=r"broken\.npz"):
        ScoreCache(tmp_path, {"model": "a"})


def test_a_fingerprint_is_the_content_not_the_place(tiny_model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_model, tmp_path / "copy"))
    assert fingerprint(str(copy)) == fingerprint(str(tiny_model))
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert fingerprint(str(copy)) != fingerprint(str(tiny_model))
    with pytest.raises(DataError, match="no model files"):
        fingerprint(str(tmp_path))


def test_the_settings_of_prompts_hold_for_pairs_too(tmp_path: Path, tokenizer: Any) -> None:
    row = {"question": "1+1", "unit": "m", "chosen": "2", "rejected": "3", "system": "Own."}
    path = write(tmp_path / "a.jsonl", [row])
    pairs = load(path, tokenizer, prompt_key="question", template="{prompt} in {unit}", max_prompt_tokens=64)
    text = tokenizer.decode(pairs.train[0].prompt.token_ids)
    assert text == "<|system|>Own.<|end|><|user|>1+1 in m<|end|><|assistant|>"
    with pytest.raises(DataError, match=r"a\.jsonl:1: the column data.prompt_key=text is missing"):
        load(path, tokenizer, prompt_key="text")


@pytest.mark.parametrize(
    ("setting", "value"), [("answer_key", "a"), ("domain_key", "d"), ("verifier", "exact"), ("format", "verl")]
)
def test_settings_that_mean_nothing_for_pairs_are_refused(setting: str, value: str) -> None:
    settings = RunSettings()
    setattr(settings.data, setting, value)
    problems = Preference.problems("stages.preference", Preference.Config(), Run(config=settings))
    assert [problem.key for problem in problems if problem.key == f"data.{setting}"] == [f"data.{setting}"]
