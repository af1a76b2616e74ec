"""Units behind a number: dropped, unless both answers name one that is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

# kind, size, spellings
# fmt: off
KNOWN: tuple[tuple[str, str, str], ...] = (
    ("length", "1/1000", "mm millimeter millimetre"), ("length", "1/100", "cm centimeter centimetre"),
    ("length", "1", "m meter metre"), ("length", "1000", "km kilometer kilometre"),
    ("length", "127/5000", "in inch inche"), ("length", "381/1250", "ft foot feet"),
    ("length", "1143/1250", "yd yard"), ("length", "201168/125", "mi mile"),
    ("mass", "1/1000", "mg milligram"), ("mass", "1", "g gram"), ("mass", "1000", "kg kilogram"),
    ("mass", "45359237/100000", "lb pound"), ("mass", "45359237/1600000", "oz ounce"), ("mass", "1000000", "tonne"),
    ("time", "604800", "week wk"), ("time in months", "1", "month"), ("time in months", "12", "year yr"),
    ("length/time", "1397/3125", "mph"), ("length/time", "5/18", "kph kmph"), ("length", "1/1000000", "micrometer"),
    ("current", "1", "ampere amp"), ("tension", "1", "volt"), ("power", "1", "watt"), ("power", "1000", "kw kilowatt"),
    ("frequency", "1", "hz hertz"), ("frequency", "1000", "khz kilohertz"), ("frequency", "1000000", "mhz megahertz"),
    ("energy", "4184/1000", "cal calorie"), ("volume", "473176473/125000000", "gallon gal"),
    ("plane angle", "1", "radian rad"),
    ("temperature in C", "1", "celsius"), ("temperature in F", "1", "fahrenheit"), ("temperature in K", "1", "kelvin"),
    ("time", "1", "s sec second"), ("time", "60", "min minute"), ("time", "3600", "h hr hour"),
    ("time", "86400", "day"), ("length", "1/1000000000", "nm nanometer nanometre"),
    ("energy", "1", "j joule"), ("energy", "1000", "kj kilojoule"), ("pressure", "1", "pa pascal"),
    ("pressure", "1000", "kpa"), ("force", "1", "n newton"), ("amount", "1", "mol mole"),
    ("volume", "1/1000", "ml milliliter millilitre"), ("volume", "1", "l liter litre"),
    ("money", "1", "dollar usd buck"), ("money", "1/100", "cent"), ("money in euros", "1", "euro eur"),
    ("angle", "1", "degree deg"),
)
# fmt: on
UNITS = {name: (kind, Fraction(size)) for kind, size, names in KNOWN for name in names.split()}
# Words of which one behind the gold number and another behind the answer's are not the same.
CONTRARIES = tuple(
    frozenset(words.split())
    for words in (
        "am pm",
        "north south east west",
        "even odd",
        "profit loss gain",
        "bc ad bce ce",
        "increase decrease",
        "clockwise counterclockwise anticlockwise",
        "left right",
        "above below",
        "up down",
        "celsius fahrenheit kelvin",
    )
)
# Words behind a number that change it.
# fmt: off
SCALES = frozenset((
    "hundred", "thousand", "million", "billion", "trillion", "dozen", "dozens", "half", "halves", "third", "thirds",
    "quarter", "quarters", "fourth", "fourths", "fifth", "fifths", "tenth", "tenths", "squared", "cubed", "factorial",
    "plus", "minus", "times", "over", "by", "to", "mod", "modulo", "base", "point", "percent", "not", "is", "or", "and",
    "if", "for", "than", "less", "more",
))
# fmt: on
ONE = r"(?:\\cdot\s*|/\s*)?\\text\{(?P<unit>[^{}]*[a-zA-Z.][^{}]*)\}\s*(?:\^\s*\{?\s*(?P<power>-?\d+)\s*\}?)?\s*"
MORE = re.sub(r"\?P<\w+>", "", ONE)
MARKED = re.compile(rf"(?P<rest>.*?[\d}})!\w])\s*{ONE}(?P<more>(?:{MORE})*)")
BARE = re.compile(
    r"(?P<rest>.*(?:[\d})!]|\\pi))(?P<gap>\s*)(?P<unit>[a-zA-Z][a-zA-Z./ ]*)(?:\^\s*\{?\s*(?P<power>[23])\s*\}?)?"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A known unit: what it measures, its size in the first unit of that kind, and its power."""

    kind: str
    size: Fraction
    power: int


def without_unit(text: str, loose: bool = False) -> tuple[str, Unit | None]:
    """The number and its unit, if that is known. loose: a single letter may be a unit too, after a space."""
    match = MARKED.fullmatch(text)
    if match and not SCALES & set(re.findall("[a-z]+", match.group("unit").casefold())):
        unit = _known(match.group("unit"), match.group("power")) if not match.group("more") else None
        return match.group("rest").strip(), unit
    match = BARE.fullmatch(text)
    if match is None:
        return text, None
    words = match.group("unit").replace("/", " ").replace(".", " ").split()
    unit = _known(match.group("unit"), match.group("power"))
    if not words or SCALES & {word.casefold() for word in words}:
        return text, None
    single = len(match.group("unit")) < 2
    if single:
        known = loose and unit is not None and bool(match.group("gap"))
    else:
        leads = len(words[0]) > 2 or (_known(words[0], None) is not None and len(words) > 1)
        known = unit is not None or (bool(match.group("gap")) and leads)
    return (match.group("rest").strip(), unit) if known else (text, None)


def contrary(gold: str, found: str) -> bool:
    """Whether the two say opposite things behind a number: ``a.m.`` and ``p.m.``, ``north`` and ``south``."""
    one, other = _said(gold), _said(found)
    return any(one & group and other & group and one & group != other & group for group in CONTRARIES)


def _said(text: str) -> set[str]:
    return set(re.findall("[a-z]+", re.sub(r"\\text|\.", " ", re.sub(r"([ap])\.\s*m\b", r"\1m", text.casefold()))))


def _known(name: str, power: str | None) -> Unit | None:
    if len(sides := re.split(r"/|\bper\b", name)) == 2:
        over, under = _known(sides[0], None), _known(sides[1], power)
        if over is None or under is None:
            return None
        return Unit(f"{over.kind}/{under.kind}", over.size / under.size**under.power, under.power)
    words = name.replace(".", " ").casefold().split()
    exponent = int(power or 1)
    if words and words[0] in ("square", "sq", "cubic", "cu"):
        exponent, words = (2 if words[0].startswith("s") else 3), words[1:]
    if len(words) != 1:
        return None
    for spelling in (words[0], words[0].removesuffix("s"), words[0].removesuffix("es")):
        if spelling in UNITS:
            return Unit(*UNITS[spelling], exponent)
    return None
