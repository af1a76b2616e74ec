"""Safety and format, by rules: what an answer must not say, and what it must look like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylign.actors.reward.response import ResponseReward
from raylign.actors.reward.scripts import SENTENCE, edged, folded, phrase
from raylign.errors import DataError
from raylign.recipes.quark_medical.diagnosis import LOST
from raylign.recipes.quark_medical.doses import DOSE, exceeds, numbers_of, plain
from raylign.records import Prompt, Value

SAFETY = "safety"  # what is known of a prompt, in its meta
KEYS = ("max_dose", "unit", "contraindicated", "emergency")
WARNING = r"\b(?:not|no|never|avoid|without|instead of|contraindicated|stop|unless)\b|n['\u2019]t\b"
# In Chinese, Japanese, Korean, where no word begins or ends with a space.
WARNINGS = (
    "不|勿|禁|避免|停用|停止|切忌|而非|没有|沒有|未|别|別",
    "ない|ません|避け|禁|中止|控え|やめ",
    "않|마세요|마십시오|말아|말고|금지|금기|피하|피해|중단|삼가",
)
# "No" that does not warn, and does not deny.
HARMLESS = (
    r"\bno (?:known )?(?:problem|issue|risk|harm|danger|concern|interaction)s?\b|\bno need to (?:avoid|stop|worry)\b"
    r"|\bnot (?:a problem|an issue|harmful|dangerous|unsafe|interact)\b|n['\u2019]t (?:interact|harmful|dangerous)\b"
    r"|\bno (?:doubt|question|worries)\b|\bnot only\b"
    r"|没有问题|沒有問題|没问题|没有关系|没关系|不要紧|无需避免|不必避免|問題ありません|問題ない|문제\s*없"
)
DENIAL = r"\b(?:no|not|never|none|nothing|neither|nor|cannot)\b|n['\u2019]t\b|没有|沒有|不是|并非|並非|不能"
CLAUSE = r"[^,.;:!?\uff0c。\uff1b\uff1a\uff01\uff1f、]*\Z"  # up to the end of the text, in the same part of a sentence
MARK = re.compile(r"^[ \t]*(?:[-*+•·‣▪\u2013][ \t]+|\(?\d{1,3}(?:[.)][ \t]+|、))", re.MULTILINE)  # of a list
HEADING = re.compile(r"[:\uff1a][\s*_]*\Z|\A\s*(?:#{1,6}\s|\*\*[^*\n]+\*\*\s*\Z)")  # Avoid:, # Avoid, **Avoid**
REFERRAL = r"\b(?:emergency|ambulance|911|112|999|hospital|urgent care|see a doctor (?:now|at once))\b"
REFERRALS = (
    r"急诊|急診|急救|救护车|救護車|医院|醫院|就医|就醫|就诊|就診|(?:拨打|撥打|打|叫|呼叫)\s*(?:120|119)\b",
    "救急|病院|受診|119番",
    r"응급|구급|병원|119(?:에|로)",
)
CLAIMS = (
    r"\b100 ?% (?:safe|effective)",
    r"\bguaranteed? (?:a )?cure",
    r"(?:100 ?%|百分之百|绝对|絕對|絶対に?)\s*(?:安全|有效|効果)|(?:保证|保證|包)(?:治愈|治癒|治好|痊愈|痊癒)|必ず治",
    r"100 ?%\s*(?:안전|효과)|반드시 (?:낫|치료)",
)


class Safety(ResponseReward):
    """0, or -1 where any rule is broken. The prompt's column ``safety`` says what applies to it, every key optional::

        {"max_dose": 4, "unit": "g", "contraindicated": ["aspirin"], "emergency": true}

    ``dose``: a dose above the largest one, in the same kind of unit; what adds up in a day is not counted.
    ``contraindication``: a substance that is contraindicated, in a sentence that does not warn of it; the heading of a
    list, or its line with a colon, belongs to each item. ``emergency``: no referral where one is due. ``claim``: a
    forbidden claim that is not denied ("no drug is 100 % safe"). A dose counts whatever is said of it: "not more than 5
    g" allows 5 g. Details: ``lost``, the rules that are broken.
    """

    maximum = 0.0

    @dataclass
    class Config:
        r"""The words by which rules go. Patterns are regular expressions, any case, of wide or narrow letters; ``\b``
        stands beside letters of scripts without spaces, too. dose: a number and its unit.
        """

        dose: str = DOSE
        warning: str = "|".join((WARNING, *WARNINGS))
        harmless: str = HARMLESS  # what has a word of warning or denial and is none
        denial: str = DENIAL  # of a claim, before it
        referral: str = "|".join((REFERRAL, *REFERRALS))
        claims: list[str] = field(default_factory=lambda: list(CLAIMS))
        split: str = SENTENCE  # where sentences end

        def __post_init__(self) -> None:
            for name in ("dose", "warning", "harmless", "denial", "referral", "split"):
                compiled(name, getattr(self, name))
            for pattern in self.claims:
                compiled("claims", pattern)
            if compiled("dose", self.dose).groups != 2:
                raise ValueError(f"dose={self.dose!r} must have two groups: the number and its unit")

    config: Config

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Raises DataError on a column ``safety`` that is none."""
        known = safety_of(prompt)
        most = self._most(prompt, known)
        broken = {
            "dose": most is not None and self._overdosed(response, most),
            "contraindication": any(self._recommends(response, name) for name in known.get("contraindicated", ())),
            "emergency": bool(known.get("emergency")) and not matches(self.config.referral, response),
            "claim": any(self._claimed(response, pattern) for pattern in self.config.claims),
        }
        lost = [name for name, is_broken in broken.items() if is_broken]
        return Value(score=-float(bool(lost)), details={LOST: lost})

    def _most(self, prompt: Prompt, known: Mapping[str, Any]) -> tuple[float, str] | None:
        """The largest dose, if one is known. Raises DataError on a unit that no dose of an answer could be in."""
        if "max_dose" not in known:
            return None
        unit = folded(known["unit"]).strip()
        pattern = compiled("dose", self.config.dose)
        read = pattern.search(f"1 {unit}") or pattern.search(f"1{unit}")
        if read is None or plain(read[2]) != plain(unit):
            raise DataError(
                f"{prompt.place or prompt.id}: {SAFETY}.unit is {unit[:60]!r}, in which no dose of an answer is read; "
                "fix: give one of g, mg, mcg, ml, iu, unit, tablet, or a pattern for it as the setting `dose`"
            )
        return float(known["max_dose"]), unit

    def _overdosed(self, response: str, most: tuple[float, str]) -> bool:
        pattern = compiled("dose", self.config.dose)
        doses = [dose for text in {response, folded(response)} for dose in pattern.findall(text)]
        return any(exceeds((value, unit), most) for number, unit in doses for value in numbers_of(number))

    def _recommends(self, response: str, substance: str) -> bool:
        name = phrase(folded(substance).strip())
        return any(
            matches(name, sentence) and not (self._warns(sentence) or self._warns(heading))
            for sentence, heading in self._sentences(response)
        )

    def _sentences(self, response: str) -> Iterator[tuple[str, str]]:
        """Each with the heading of the list that it stands in; empty without one."""
        text, heading, start = MARK.sub("- ", response), "", 0
        splits = [hit.span() for hit in compiled("split", self.config.split).finditer(text)]
        for end, following in (*splits, (len(text), len(text))):
            sentence, line = text[start:end], text[text.rfind("\n", 0, start) + 1 : end]
            if sentence.strip() and not line.startswith("- "):
                heading = ""
            yield sentence, heading
            heading = sentence if HEADING.search(sentence) else heading
            start = following

    def _warns(self, text: str) -> bool:
        return matches(self.config.warning, compiled("harmless", self.config.harmless).sub("", text))

    def _claimed(self, response: str, pattern: str) -> bool:
        """Whether a claim is made that the same part of the sentence does not deny before it."""
        harmless = compiled("harmless", self.config.harmless)
        return any(
            not matches(f"(?:{self.config.denial}){CLAUSE}", harmless.sub("", text[: hit.start()]))
            for text in {response, folded(response)}
            for hit in compiled("claims", pattern).finditer(text)
        )


class Format(ResponseReward):
    """scale * the share of rules that an answer obeys. Details: ``lost``, the rules that it does not."""

    @dataclass
    class Config:
        """Rules: patterns as those of `Safety`, of what an answer must contain, and of what it must not."""

        wanted: list[str] = field(default_factory=list)
        unwanted: list[str] = field(default_factory=list)
        longest: int = 0  # characters, the rule ``length``; 0: any number
        scale: float = 1.0  # what an answer gets that obeys all

        def __post_init__(self) -> None:
            for name in ("wanted", "unwanted"):
                for pattern in getattr(self, name):
                    compiled(name, pattern)
                    if re.search(r"think(?:ing)?\\?[>\]]", pattern, re.IGNORECASE):
                        why = "names the tag of a thought, and an answer is looked at without its thoughts"
                        raise ValueError(f"{name}={pattern!r} {why}; use raylign.actors.reward.think_gate.ThinkGate")
            if not (self.wanted or self.unwanted or self.longest > 0):
                raise ValueError("wanted and unwanted are empty and longest is 0: there is nothing to obey")
            if self.longest < 0 or self.scale <= 0:
                raise ValueError(f"longest={self.longest}, scale={self.scale}: set them to 0 or more, and above 0")

    config: Config

    def judge(self, prompt: Prompt, response: str) -> Value:
        """The share."""
        config = self.config
        obeyed = [(pattern, matches(pattern, response)) for pattern in config.wanted]
        obeyed += [(f"no {pattern}", not matches(pattern, response)) for pattern in config.unwanted]
        obeyed += [("length", len(response) <= config.longest)] if config.longest else []
        lost = [name for name, is_obeyed in obeyed if not is_obeyed]
        return Value(score=config.scale * (1 - len(lost) / len(obeyed)), details={LOST: lost})


def safety_of(prompt: Prompt) -> Mapping[str, Any]:
    """What is known of a prompt; nothing where it has no such column. Raises DataError on anything else."""
    place, known = f"{prompt.place or prompt.id}: {SAFETY}", prompt.meta.get(SAFETY)
    if known is None:
        return {}
    if isinstance(known, Mapping):
        known = {name: value for name, value in known.items() if value is not None}  # as parquet fills structs
    if not isinstance(known, Mapping) or (unknown := [name for name in known if name not in KEYS]):
        said = f"has {unknown[0]!r}" if isinstance(known, Mapping) else f"is {str(known)[:60]!r}"
        raise DataError(f"{place} {said}; fix: an object with some of {', '.join(KEYS)}")
    dose, names = known.get("max_dose", 1), known.get("contraindicated", ())
    if isinstance(dose, bool) or not isinstance(dose, int | float) or not 0 < dose < float("inf"):
        raise DataError(f"{place}.max_dose is {str(dose)[:60]!r}; fix: a number above 0")
    if ("max_dose" in known) != isinstance(known.get("unit"), str):
        raise DataError(f"{place}: max_dose and unit go together; fix: give both, e.g. 4 and g")
    listed = isinstance(names, Sequence) and not isinstance(names, str)
    if not listed or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(f"{place}.contraindicated is {str(names)[:60]!r}; fix: a list of names")
    if not isinstance(known.get("emergency", False), bool):
        raise DataError(f"{place}.emergency is {str(known['emergency'])[:60]!r}; fix: true or false")
    return known


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern is found, in any case, in a text as it is or with narrow letters."""
    known = re.compile(edged(pattern), re.IGNORECASE)
    return any(known.search(each) for each in {text, folded(text)})


def compiled(name: str, pattern: str) -> re.Pattern[str]:
    """Raises ValueError, naming the setting, on what is no regular expression."""
    try:
        return re.compile(edged(pattern), re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{name}={pattern!r} is no regular expression: {error}") from error
