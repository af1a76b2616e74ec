"""Words in texts of any script: boundaries where no space tells, wide letters, pairs of letters, and places."""

# ruff: noqa: RUF001 (wide letters and signs are what is tested)

from __future__ import annotations

import re

import pytest

from raylign.actors.reward.scripts import SENTENCE, edged, folded, phrase, with_places, words_of


@pytest.mark.parametrize(
    ("words", "text", "stands"),
    [
        ("aspirin", "服用aspirin吧", True),
        ("阿司匹林", "您可以服用阿司匹林吗", True),
        ("아스피린", "아스피린을", True),
        ("cur", "le curé", False),
        ("cur", "le cure\u0301", False),
        ("über", "darüber", False),
        ("über", "nur über Nacht", True),
        ("कुत्त", "कुत्ता", False),  # a vowel sign is part of the word
        ("мир", "мира", False),
        ("No.1", "No.10", False),
        ("No.1", "業界No.1の靴", True),
        ("best", "_best_", True),
        ("100%", "100%安全", True),
    ],
)
def test_a_phrase_is_whole_words_where_words_are_marked(words: str, text: str, stands: bool) -> None:
    assert (re.search(phrase(words), folded(text)) is not None) is stands


def test_an_edge_is_the_plain_one_in_texts_with_spaces_and_stands_beside_other_scripts_too() -> None:
    for text in ("take 5mg, or 6 mg-Äpfel d'été_1", "", " ", "дом 5"):
        plain, ours = ([hit.start() for hit in re.finditer(pattern, text)] for pattern in (r"\b", edged(r"\b")))
        assert ours == plain
    assert re.findall(edged(r"\d+mg\b"), "服用500mg的，或600mg") == ["500mg", "600mg"]
    assert re.search(edged(r"\b911\b"), "请拨打911吧") and not re.search(edged(r"\b911\b"), "请拨打9110")
    assert edged(r"\\b\d") == r"\\b\d", "a backslash, then the letter b"


def test_wide_letters_are_narrow_and_numbers_that_are_no_digits_stay() -> None:
    assert folded("Ｎｏ．１ ㎎ ｶﾞ 5\u00a0g") == "No.1 mg ガ 5 g"
    assert folded("10² ½ ①") == "10² ½ ①", "102, 11/2 and 1 would be other numbers"


def test_parts_of_a_folded_text_are_found_in_the_original() -> None:
    text = "靴 Ｎｏ．１ ㎎ cafe\u0301!"
    known = with_places(text)
    for part, original in (("No.1", "Ｎｏ．１"), ("mg", "㎎"), ("café", "cafe\u0301"), ("!", "!"), ("靴", "靴")):
        start = known.text.index(part)
        assert text[slice(*known.original(start, start + len(part)))] == original


def test_words_are_as_ever_with_spaces_and_pairs_of_letters_without() -> None:
    english = "Don't take 2.5mg of it; l'été_1 über alles, МИР"
    assert words_of(english) == re.findall(r"\w+", english.lower())
    assert words_of("阿司匹林, 药 vitamin维生素Ｃ") == ["阿司", "司匹", "匹林", "药", "vitamin", "维生", "生素", "c"]


def test_sentences_end_without_a_space_after_cjk_signs() -> None:
    assert re.split(SENTENCE, "服用。不要！“好。”对") == ["服用。", "不要！", "“好。”对"]
    assert re.split(SENTENCE, "Take 2.5 g. Rest! Now\nor later") == ["Take 2.5 g.", "Rest!", "Now", "or later"]
