"""Which characters a sampled token wrote, in vocabularies of both kinds, half characters and ends of turn included."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_families import FAMILIES

from raylign.chat.spans import on_tokens, token_ranges
from raylign.chat.template import ChatTemplate
from raylign.records import Span

NAMES = [family.name for family in FAMILIES]
ADS = Path(__file__).parents[3] / "shared" / "data" / "adparaphrase" / "main_2000.csv"


@pytest.fixture(params=NAMES)
def chat(request: pytest.FixtureRequest, tokenizers: dict[str, Any]) -> ChatTemplate:
    return ChatTemplate(tokenizers[request.param])


def ids_of(chat: ChatTemplate, text: str) -> list[int]:
    return [int(number) for number in chat.codec.encode(text)]


def test_tokens_of_plain_text_hold_their_own_letters(chat: ChatTemplate) -> None:
    ids = ids_of(chat, "the answer is 4")
    ranges, text = token_ranges(chat, ids), chat.text_of(ids)
    assert text == "the answer is 4"
    assert "".join(text[start:end] for start, end in ranges) == text
    assert [start for start, _ in ranges[1:]] == [end for _, end in ranges[:-1]], "one behind the other"


def test_ends_of_turn_and_padding_hold_nothing(chat: ChatTemplate) -> None:
    end, pad = min(chat.ends), int(chat.tokenizer.pad_token_id)
    ids = [*ids_of(chat, "is 4"), end, pad]
    assert [end - start for start, end in token_ranges(chat, ids)[-2:]] == [0, 0]
    assert on_tokens(token_ranges(chat, ids), [Span(0, 4, 1.0)])[-2:].tolist() == [0, 0]


def test_a_special_token_that_is_no_end_is_text(tokenizers: dict[str, Any]) -> None:
    chat = ChatTemplate(tokenizers["qwen3"])
    think = chat.tokenizer.convert_tokens_to_ids("<think>")
    ids = [*ids_of(chat, "is"), think, *ids_of(chat, "4")]
    assert chat.text_of(ids) == "is<think>4"
    start, end = token_ranges(chat, ids)[ids.index(think)]
    assert chat.text_of(ids)[start:end] == "<think>"


def test_the_bytes_of_a_character_answer_for_it_together(chat: ChatTemplate) -> None:
    """No vocabulary here has the character: it is written by several ids."""
    ids = ids_of(chat, "is美4")
    text = chat.text_of(ids)
    place = text.index("美")
    scores = on_tokens(token_ranges(chat, ids), [Span(place, place + 1, -1.0)])
    assert (scores == -1).sum() >= 3, "three bytes of UTF-8, in as many ids"
    assert [chat.text_of([number]) for number, score in zip(ids, scores, strict=True) if not score] == ["is", "4"]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_sampled_no_character_is_without_a_token(chat: ChatTemplate, seed: int) -> None:
    """Random ids: broken characters, special tokens in the middle, ends that were not the end."""
    rng = np.random.default_rng(seed)
    ids = [int(number) for number in rng.integers(0, len(chat.tokenizer), 40)]
    ranges, text = token_ranges(chat, ids), chat.text_of(ids)
    covered = np.zeros(len(text), bool)
    for start, end in ranges:
        assert 0 <= start <= end <= len(text)
        covered[start:end] = True
    assert covered.all()
    starts = [start for start, _ in ranges]
    assert starts == sorted(starts)


def test_beginnings_say_the_same_as_bytes(chat: ChatTemplate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow way, for decoders that look at neighbours, where both can be taken."""
    ids = ids_of(chat, "what is 2 and 2, 美しい weather in Paris?")
    by_bytes = token_ranges(chat, ids)
    monkeypatch.setattr("raylign.chat.spans._by_bytes", None)
    monkeypatch.setattr(ChatTemplate, "bytes_of", lambda self, number: b"?")
    assert token_ranges(chat, ids) == by_bytes


def test_spans_that_overlap_add_up() -> None:
    ranges = [(0, 2), (2, 2), (2, 5), (5, 6)]
    assert on_tokens(ranges, [Span(1, 3, -1.0), Span(2, 6, 0.5)]).tolist() == [-1.0, 0.0, -0.5, 0.5]
    assert on_tokens([], [Span(0, 1, 1.0)]).tolist() == []


@pytest.mark.skipif(not ADS.is_file(), reason="shared/data/adparaphrase is not there")
def test_a_thousand_spans_of_real_advertisements(chat: ChatTemplate) -> None:
    """Every character of the span is held by a token that it marks, and no marked token lies outside."""
    with ADS.open(encoding="utf-8") as file:
        ads = [row["ad1"] for row in csv.DictReader(file)]
    rng = np.random.default_rng(0)
    for _ in range(1000 // len(NAMES) + 1):
        ids = ids_of(chat, ads[rng.integers(len(ads))])
        text, ranges = chat.text_of(ids), token_ranges(chat, ids)
        start = int(rng.integers(len(text)))
        end = int(rng.integers(start, len(text))) + 1
        marked = on_tokens(ranges, [Span(start, end, 1.0)]) > 0
        held = {place for (a, b), yes in zip(ranges, marked, strict=True) if yes for place in range(a, b)}
        assert held >= set(range(start, end))
        assert all((a < end and b > start) == yes for (a, b), yes in zip(ranges, marked.tolist(), strict=True) if a < b)
