r"""Doses in answers: a number and its unit, in the symbols and words of several languages.

Weights (kg, g, mg, \u03bcg) are compared with each other; ml, iu, unit and tablet each with its own kind.
"""

from __future__ import annotations

import re

WEIGHTS = {  # grams -> what they are called, in lower case and the singular
    1e3: "kg kilogram kilogramme kilogramm kilogramo 千克 公斤 キログラム 킬로그램 \u043a\u0433",
    1.0: "g gram gramme gramm gramo 克 グラム 그램 \u0433",
    1e-3: "mg milligram milligramme milligramm miligramo 毫克 ミリグラム 밀리그램 \u043c\u0433",
    1e-6: "mcg ug \u03bcg microgram microgramme mikrogramm 微克 マイクログラム 마이크로그램 \u043c\u043a\u0433",
}
KINDS = {
    "ml": "ml 毫升 ミリリットル 밀리리터 \u043c\u043b",
    "iu": "iu 国际单位 國際單位 国際単位 국제단위",
    "unit": "unit 单位 單位 単位 단위",
    "tablet": "tablet 片 錠 정",
}
GRAMS = {name: grams for grams, names in WEIGHTS.items() for name in names.split()}
SAME = {name: kind for kind, names in KINDS.items() for name in names.split()}
TIMES = {
    **dict.fromkeys(("thousand", "千", "천"), 1e3),
    **dict.fromkeys(("万", "萬", "만"), 1e4),
    **dict.fromkeys(("million", "百万", "百萬", "백만"), 1e6),
    **dict.fromkeys(("亿", "億", "억"), 1e8),
}
NAMES = "|".join(sorted((*GRAMS, *SAME), key=lambda name: (-len(name), name)))
# What is measured in blood or by body weight is no dose: 200 mg/dL, 10 mg/kg; 500 mg/day is one.
PER = r"(?!\s*/\s*(?:[dmμu]?l|dl|kg|m2|m²|m\^2|分升|毫升|升|公斤|千克)\b)"
DOSE = (
    r"(?<!\d)(?<!\d[.,])"  # no end of a longer number; in groups by spaces, unless so many are taken: 2 500 mg tablets
    r"((?:\d{1,3}(?:[ '\u2019]\d{3})+(?:[.,]\d+)?(?![\s-]*[a-zμ]+\s*(?:tab|cap|pill))|\d+(?:[.,]\d+)*)"
    rf"(?:\s*(?:{'|'.join(TIMES)})(?!克))?)[\s-]*((?:{NAMES})s?)\b{PER}"
)
GROUPED = re.compile(
    r"\d{1,3}(,\d{3})+(\.\d+)?|\d{1,3}([ '\u2019]\d{3})+([.,]\d+)?|\d{1,3}(\.\d{3}){2,}|\d{1,3}(\.\d{3})+,\d+"
)


def numbers_of(text: str) -> list[float]:
    """4.5 and 4,5 are four and a half; 4,500 and 4 500 are a thousand times as much, as is 4.5千; 4.500 is as much as
    4.5; 5,10,20 are three numbers.

    Raises ValueError on what is no number.
    """
    text = text.lower()
    word = max((name for name in TIMES if text.endswith(name)), key=len, default="")
    digits, factor = text.removesuffix(word).rstrip(), TIMES.get(word, 1.0)
    listed = digits.count(".") + digits.count(",") > 1 and not GROUPED.fullmatch(digits)
    return [factor * _number(part) for part in (re.split("[.,]", digits) if listed else [digits])]


def _number(text: str) -> float:
    if not GROUPED.fullmatch(text):
        return float(text.replace(",", "."))
    *groups, last = re.split(r"[ ,.'\u2019]", text)
    ends = re.search(r"[.,](\d+)$", text)
    marks = set(re.findall(r"\D", text))
    is_fraction = ends is not None and (len(marks) > 1 or len(last) != 3)
    return float(f"{''.join(groups)}.{last}") if is_fraction else float("".join((*groups, last)))


def exceeds(dose: tuple[float, str], most: tuple[float, str]) -> bool:
    """Whether a dose is above another of the same kind of unit; False of units that cannot be compared."""
    (number, unit), (limit, its) = dose, most
    unit, its = plain(unit), plain(its)
    if unit in GRAMS and its in GRAMS:
        number, limit = number * GRAMS[unit], limit * GRAMS[its]
    elif SAME.get(unit, unit) != SAME.get(its, its):
        return False
    return number > limit * (1 + 1e-9)


def plain(unit: str) -> str:
    """A unit in lower case and the singular."""
    return unit.lower().rstrip("s")
