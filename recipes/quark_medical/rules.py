"""Safety and format, by rules: what an answer must not say, and what it must look like."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylign.actors.reward.response import ResponseReward
from raylign.errors import DataError
from raylign.recipes.quark_medical.diagnosis import LOST
from raylign.records import Prompt, Value

SAFETY = "safety"  # what is known of a prompt, in its meta
KEYS = ("max_dose", "unit", "contraindicated", "emergency")
GRAMS = {"kg": 1e3, "g": 1.0, "gram": 1.0, "mg": 1e-3, "milligram": 1e-3} | dict.fromkeys(
    ("mcg", "ug", "\u00b5g", "\u03bcg", "microgram"), 1e-6
)
DOSE = r"(\d+(?:[.,]\d+)*)[\s-]*((?:[kmu\u00b5\u03bc]|mc)?g|(?:milli|micro)?grams?|ml|iu|units?|tablets?)\b"
THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
CLAIMS = (r"\b100 ?% (?:safe|effective)", r"\bguaranteed? (?:a )?cure")
SENTENCE = r"(?<=[.!?;])\s+|\n+"


class Safety(ResponseReward):
    """0, or -1 where any rule is broken. The prompt's column ``safety`` says what applies to it, every key optional::

        {"max_dose": 4, "unit": "g", "contraindicated": ["aspirin"], "emergency": true}

    ``dose``: a dose above the largest one, in the same kind of unit; what adds up in a day is not counted.
    ``contraindication``: a substance that is contraindicated, in a sentence that does not warn of it. ``emergency``: no
    referral where one is due. ``claim``: a forbidden claim. Details: ``lost``, the rules that are broken.
    """

    maximum = 0.0

    @dataclass
    class Config:
        """The words by which rules go; patterns are regular expressions, any case. dose: a number and its unit."""

        dose: str = DOSE
        warning: str = r"\b(?:not|no|never|avoid|without|instead of|contraindicated|stop|unless)\b|n't\b"
        referral: str = r"\b(?:emergency|ambulance|911|112|999|hospital|urgent care|see a doctor (?:now|at once))\b"
        claims: list[str] = field(
            default_factory=lambda: [r"\b100 ?% (?:safe|effective)", r"\bguaranteed? (?:a )?cure"]
        )
        split: str = SENTENCE  # where sentences end

        def __post_init__(self) -> None:
            for name in ("dose", "warning", "referral", "split"):
                compiled(name, getattr(self, name))
            for pattern in self.claims:
                compiled("claims", pattern)
            if compiled("dose", self.dose).groups != 2:
                raise ValueError(f"dose={self.dose!r} must have two groups: the number and its unit")

    config: Config

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Raises DataError on a column ``safety`` that is none."""
        known = safety_of(prompt)
        broken = {
            "dose": "max_dose" in known and self._overdosed(response, float(known["max_dose"]), known.get("unit", "")),
            "contraindication": any(self._recommends(response, name) for name in known.get("contraindicated", ())),
            "emergency": bool(known.get("emergency")) and not matches(self.config.referral, response),
            "claim": any(matches(pattern, response) for pattern in self.config.claims),
        }
        lost = [name for name, is_broken in broken.items() if is_broken]
        return Value(score=-float(bool(lost)), details={LOST: lost})

    def _overdosed(self, response: str, most: float, unit: str) -> bool:
        for number, named in re.findall(self.config.dose, response, re.IGNORECASE):
            dose, limit, (mine, its) = number_of(number), most, (name.lower().rstrip("s") for name in (named, unit))
            if mine in GRAMS and its in GRAMS:
                dose, limit = dose * GRAMS[mine], most * GRAMS[its]
            elif mine == its:
                pass
            else:
                continue  # of another kind
            if dose > limit * (1 + 1e-9):
                return True
        return False

    def _recommends(self, response: str, substance: str) -> bool:
        name = rf"(?<!\w){re.escape(substance)}(?!\w)"
        sentences = [each for each in re.split(self.config.split, response) if matches(name, each)]
        return any(not matches(self.config.warning, each) for each in sentences)


class Format(ResponseReward):
    """scale * the share of rules that an answer obeys. Details: ``lost``, the rules that it does not."""

    @dataclass
    class Config:
        """Rules: regular expressions, any case, of what an answer must contain, and of what it must not."""

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
    if not isinstance(known, Mapping) or (unknown := [name for name in known if name not in KEYS]):
        said = f"has {unknown[0]!r}" if isinstance(known, Mapping) else f"is {str(known)[:60]!r}"
        raise DataError(f"{place} {said}; fix: an object with some of {', '.join(KEYS)}")
    dose, names = known.get("max_dose", 1), known.get("contraindicated", ())
    if isinstance(dose, bool) or not isinstance(dose, int | float) or not dose > 0:
        raise DataError(f"{place}.max_dose is {str(dose)[:60]!r}; fix: a number above 0")
    if ("max_dose" in known) != isinstance(known.get("unit"), str):
        raise DataError(f"{place}: max_dose and unit go together; fix: give both, e.g. 4 and g")
    listed = isinstance(names, Sequence) and not isinstance(names, str)
    if not listed or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(f"{place}.contraindicated is {str(names)[:60]!r}; fix: a list of names")
    if not isinstance(known.get("emergency", False), bool):
        raise DataError(f"{place}.emergency is {str(known['emergency'])[:60]!r}; fix: true or false")
    return known


def number_of(text: str) -> float:
    """4.5 and 4,5 are four and a half; 4,500 is a thousand times as much. Raises ValueError on what is neither."""
    return float(text.replace(",", "") if THOUSANDS.fullmatch(text) else text.replace(",", "."))


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern is found, in any case."""
    return re.search(pattern, text, re.IGNORECASE) is not None


def compiled(name: str, pattern: str) -> re.Pattern[str]:
    """Raises ValueError, naming the setting, on what is no regular expression."""
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{name}={pattern!r} is no regular expression: {error}") from error
