r"""The final answer that an expert's solution states: in a box, by a form or a sentence, else its last number."""

from __future__ import annotations

import re
from typing import NamedTuple

from raylign.actors.reward.forms import announced
from raylign.actors.reward.response import last_boxed
from raylign.actors.reward.scripts import SENTENCE, edged, folded

ANNOUNCED = re.compile(
    edged(
        r"(?:\b(?:answer|result)\b[^.:\n=\d]{0,40}?(?:\b(?:is|are|equals)\b:?|:)|\banswer\s*=|####"
        r"|(?:答案|结果|結果)\s*(?:是|为|為|:)|答えは)\s*"
    ),
    re.IGNORECASE,
)
PLAIN = r"\d{1,3}(?:[ ,\u00a0\u202f]\d{3})+(?!\d)(?:\.\d+)?|\d+:\d{2}(?::\d{2})?(?!\d)|\d+(?:\.\d+)?"
SIGNED = rf"(?<![\w)}}])-?(?:{PLAIN})"
NUMBER = (
    r"(?<![\w)}])-?\\[dt]?frac\{[^{}]+\}\{[^{}]+\}|(?<![\w)}])-?\\[dt]?frac\d{2}"
    rf"|(?:{SIGNED}|(?<=[\w)}}]-)(?:{PLAIN})|(?<![.,])(?:{PLAIN}))"
    r"(?:[eE][+-]?\d+|\s*/\s*\d+|\^(?:\d+|\{-?\d+\}))?\\?%?"
)
LAST = re.compile(NUMBER)
FIRST = re.compile(rf"(?:\\?[$€£¥]|\\[(\[])?\s*({NUMBER})")
ASIDE = re.compile(r"\s+[(\[](?!mod\b)[^()\[\]]*[^\W\d_]{2,}[^()\[\]]*[)\]]")  # words in brackets
REASON = re.compile(r"[,;]?\s+(?:since|because|as|so|which|where|by|from)\b.*", re.IGNORECASE | re.DOTALL)
PROSE = re.compile(r"(?<!\\)\b(?!or\b|and\b|mod\b)[^\W\d_]{2,}")
CHOICE = re.compile(r"[(\[]?([A-J])[)\]]?")
EQUATION = re.compile(r"=\s*([^=\n]+?)\s*\Z")
LONGEST = 200  # letters of an answer in words
AROUND = " \t*$.,;:!\u3002"


class Stated(NamedTuple):
    """An answer, and how it is stated. Example: ``Stated("4", only_number=True)`` of "there are 4 of them" """

    answer: str
    only_number: bool = False  # nothing says that it is the answer: it is but the last number


def stated_answer(solution: str) -> Stated | None:
    """The last complete box, as verifiers read responses; else what a form or a sentence calls the answer, or the last
    equation; else the last number; None without any. What stands in brackets behind an answer, or gives its reason, is
    none of it.
    """
    if (content := last_boxed(solution)) is not None:
        return Stated(content)
    if (said := _announced(solution)) is not None:
        return Stated(said)
    bare = _without_asides(solution)
    last = bare.rstrip().rpartition("\n")[2]
    if choice := CHOICE.fullmatch(last.strip(AROUND)):
        return Stated(choice[1])
    equation = EQUATION.search(last.strip(AROUND))
    if equation and not PROSE.search(equation[1]):
        return Stated(_trimmed(equation[1]))
    numbers = LAST.findall(bare) or LAST.findall(solution)
    return Stated(folded(numbers[-1]), only_number=True) if numbers else None


def _announced(solution: str) -> str | None:
    """What the last statement of an answer gives; a result that the solution goes on to reckon with is none."""
    text = folded(solution)
    statements = list(ANNOUNCED.finditer(text))
    if not statements:
        said = announced(solution)  # tags, JSON, emphasis
        return None if said is None else _answer(said, "")
    rest = text[statements[-1].end() :].lstrip()
    sentence = re.split(SENTENCE, rest)[0]
    follows = rest[len(sentence) :]
    if statements[-1][0].lower().startswith("result") and LAST.search(follows):
        return None
    return _answer(sentence, follows)


def _answer(sentence: str, follows: str) -> str | None:
    """The answer in what is stated as one; None where that is none, as a number that `follows` it may be."""
    answer = _trimmed(REASON.sub("", _without_asides(sentence)))
    if (choice := CHOICE.match(answer)) and _is_choice(answer, choice):
        return choice[1]
    if not PROSE.search(answer):
        answer = answer.rpartition("=")[2].strip()
        first = FIRST.fullmatch(answer)
        return (first[1] if first else answer) or None
    numbers = LAST.findall(answer)
    if len(numbers) == 1:
        return str(numbers[0])
    if len(answer) > LONGEST or (not numbers and LAST.search(follows)):
        return None  # "the answer is clear: 5"
    return answer


def _is_choice(answer: str, choice: re.Match[str]) -> bool:
    """Whether the letter at the beginning of an answer is all of it, or stands in brackets or before its text."""
    rest = answer[choice.end() :]
    return not rest.strip() or choice[0] != choice[1] or rest[0] in ".:,"


def _without_asides(text: str) -> str:
    """Without words in brackets, unless nothing is left."""
    bare = ASIDE.sub("", text)
    return bare if re.search(r"\w", bare) else text


def _trimmed(text: str) -> str:
    r"""Without signs of a sentence, emphasis and the marks of a formula around it."""
    text = re.sub(r"\A\\[(\[](.*)\\[)\]]\Z", r"\1", text.strip(AROUND), flags=re.DOTALL)
    return text.strip(AROUND)
