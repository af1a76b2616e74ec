r"""Units of measurement read by their parts: prefix, symbol or name, power, products and quotients.

Case tells units apart (mW and MW, MB and Mb); a spelling in the wrong case is read where only one unit can be meant
(``KM``). What has a part that is not known here is no unit, but a label: see `quantities`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

# prefix symbol, prefix name, factor
PREFIXES: tuple[tuple[str, str, Fraction], ...] = tuple(
    (symbol, name, Fraction(10) ** power)
    for symbol, name, power in (
        ("f", "femto", -15), ("p", "pico", -12), ("n", "nano", -9), ("u", "micro", -6), ("m", "milli", -3),
        ("c", "centi", -2), ("d", "deci", -1), ("h", "hecto", 2), ("k", "kilo", 3), ("M", "mega", 6),
        ("G", "giga", 9), ("T", "tera", 12), ("P", "peta", 15),
    )
)  # fmt: skip
# dimension, size, symbols that take prefixes, names that take prefixes
PREFIXED: tuple[tuple[str, str, str, str], ...] = (
    ("length", "1", "m", "meter metre"), ("mass", "1", "g", "gram gramme"), ("time", "1", "s", "second"),
    ("current", "1", "A", "ampere amp"), ("temperature", "1", "K", "kelvin"), ("amount", "1", "mol", "mole"),
    ("length^3", "1/1000", "L l", "liter litre"), ("time^-1", "1", "Hz", "hertz"),
    ("mass length time^-2", "1000", "N", "newton"), ("mass length^-1 time^-2", "1000", "Pa", "pascal"),
    ("mass length^2 time^-2", "1000", "J", "joule"), ("mass length^2 time^-3", "1000", "W", "watt"),
    ("current time", "1", "C", "coulomb"), ("mass length^2 time^-3 current^-1", "1000", "V", "volt"),
    ("mass length^2 time^-3 current^-2", "1000", "ohm", "ohm"), ("mass^-1 length^-2 time^4 current^2", "1/1000", "F",
     "farad"), ("mass time^-2 current^-1", "1000", "T", "tesla"), ("mass length^2 time^-2 current^-2", "1000", "H",
     "henry"), ("mass length^2 time^-2 current^-1", "1000", "Wb", "weber"),
    ("electronvolt", "1", "eV", "electronvolt"), ("mass length^2 time^-2", "4184", "cal", "calorie"),
    ("mass length^2 time^-2", "3600000", "Wh", ""), ("mass length^-1 time^-2", "100000000", "bar", "bar"),
    ("data", "1", "b bit", "bit"), ("data", "8", "B", "byte"), ("pixel", "1", "px", "pixel"),
    ("decibel", "1", "dB", "decibel"), ("decay", "1", "Bq", "becquerel"), ("light", "1", "lm", "lumen"),
    ("length^2 time^-2", "1", "Sv", "sievert"),
)  # fmt: skip
# the same, of those that take none
PLAIN: tuple[tuple[str, str, str, str], ...] = (
    ("length", "127/5000", "in", "inch inche"), ("length", "381/1250", "ft", "foot feet"),
    ("length", "1143/1250", "yd", "yard"), ("length", "201168/125", "mi", "mile"),
    ("length", "1/10000000000", "", "angstrom"), ("length", "1/1000000", "", "micron"),
    ("mass", "45359237/100000", "lb lbs", "pound"), ("mass", "45359237/1600000", "oz", "ounce"),
    ("mass", "1000000", "t", "tonne"), ("time", "60", "min mins", "minute"), ("time", "3600", "h hr hrs", "hour"),
    ("time", "1", "sec secs", ""), ("time", "86400", "d", "day"), ("time", "604800", "wk", "week"),
    ("month", "1", "mo", "month"), ("month", "12", "yr yrs", "year"), ("month", "120", "", "decade"),
    ("month", "1200", "", "century centurie"), ("length time^-1", "1397/3125", "mph", ""),
    ("length time^-1", "5/18", "kph kmph", ""), ("length^3", "473176473/125000000000", "gal", "gallon"),
    ("length^3", "1/1000000", "cc", ""), ("length^2", "10000", "ha", "hectare"), ("length^2", "316160658/78125", "",
     "acre"), ("mass length^-1 time^-2", "101325000", "atm", "atmosphere"),
    ("mass length^-1 time^-2", "101325000/760", "Torr mmHg", "torr"), ("time^-1 turn", "1/60", "rpm", ""),
    ("dollar", "1", "USD", "dollar buck"), ("dollar", "1/100", "", "cent"), ("euro", "1", "EUR", "euro"),
    ("sterling", "1", "GBP", ""), ("yen", "1", "JPY", "yen"), ("rupee", "1", "INR", "rupee"),
    ("degree", "1", "deg", "degree"), ("degree", "1/60", "arcmin", "arcminute"), ("degree", "1/3600", "arcsec",
     "arcsecond"), ("radian", "1", "rad rads", "radian"), ("celsius", "1", "degC", "celsius"),
    ("fahrenheit", "1", "degF", "fahrenheit"), ("amount length^-3", "1000", "M", "molar"),
    ("mass length^2 time^-2", "4184000", "Cal kcal", ""),
    ("data", "8192", "KiB", "kibibyte"), ("data", "8388608", "MiB", "mebibyte"), ("data", "8589934592", "GiB",
     "gibibyte"),
)  # fmt: skip
RAISED = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
PART = re.compile(r"(/|\bper\b)|(\()|(\))|([A-Za-z]+)\s*(?:\^?\s*\{?\s*([+-]?\d+)\s*\}?)?|\^|(\S)")


@dataclass(frozen=True, slots=True)
class Unit:
    """What is measured, as powers of dimensions, and the size in the first unit of each. Example: m/s is
    ``Unit((("length", 1), ("time", -1)), Fraction(1))``."""

    dimensions: tuple[tuple[str, int], ...]
    size: Fraction


def unit(text: str) -> Unit | None:
    """The unit that a text names (``kg m^2``, ``J/(mol K)``, ``square feet``); None where a part is unknown.

    What follows a stroke or "per" stands below it to the end: ``J/mol K`` is J/(mol K).
    """
    text = re.sub(r"\bdegrees?\s+(celsius|fahrenheit)\b", r"\1", text.strip(), flags=re.IGNORECASE)
    dimensions: Counter[str] = Counter()
    size, below, pending, parts = Fraction(1), 1, 1, 0
    for name, power in _words(text):
        if name == "/":
            below = -1
            continue
        if name.casefold() in RAISED:
            if name.casefold() not in ("squared", "cubed"):
                pending = RAISED[name.casefold()]
            continue
        known = _named(name)
        if known is None or abs(power) > 9:
            return None
        exponent, pending, parts = power * pending * below, 1, parts + 1
        size *= known.size**exponent
        for dimension, count in known.dimensions:
            dimensions[dimension] += count * exponent
    if not parts or pending != 1:
        return None
    return Unit(tuple(sorted((name, count) for name, count in dimensions.items() if count)), size)


def _words(text: str) -> Iterator[tuple[str, int]]:
    """Strokes, and names with their powers; a sign that belongs to no unit comes as a name that is unknown."""
    matches = list(PART.finditer(re.sub(r"[.~]|\\cdot|-(?=[a-z])", " ", text)))
    ended = False
    for place, match in enumerate(matches):
        stroke, opening, closing, name, power, _ = match.groups()
        after = matches[place + 1].group(4) if place + 1 < len(matches) else None
        ended = ended or closing is not None
        if stroke:
            yield "/", 0
        elif name and not ended:  # what stands behind a bracket, (J/mol) K, is not read
            yield name, int(power or RAISED.get(after if after in ("squared", "cubed") else "", 1))
        elif not (opening or closing):
            yield "?", 1


def _named(name: str) -> Unit | None:
    symbols, names, folded = _tables()
    if name in symbols:
        return symbols[name]
    for spelling in (name.casefold(), name.casefold().removesuffix("s"), name.casefold().removesuffix("es")):
        if spelling in names:
            return names[spelling]
    return folded.get(name.casefold()) if len(name) > 1 else None


@cache
def _tables() -> tuple[dict[str, Unit], dict[str, Unit], dict[str, Unit]]:
    """Symbols as written, names in lower case, and symbols in lower case that mean one unit only."""
    symbols: dict[str, Unit] = {}
    names: dict[str, Unit] = {}
    for dimension, size, own, called in PLAIN:
        symbols |= {symbol: _simple(dimension, Fraction(size)) for symbol in own.split()}
        names |= {name: _simple(dimension, Fraction(size)) for name in called.split()}
    for dimension, size, own, _ in PREFIXED:  # as written they go before any prefix: dB is no tenth of a byte
        symbols |= {symbol: _simple(dimension, Fraction(size)) for symbol in own.split()}
    for dimension, size, own, called in PREFIXED:
        for prefix, spoken, factor in (("", "", Fraction(1)), *PREFIXES):
            unit = _simple(dimension, Fraction(size) * factor)
            for symbol in own.split():
                symbols.setdefault(prefix + symbol, unit)
            names |= {spoken + name: unit for name in called.split()}
    symbols |= {"KB": symbols["kB"], "Kb": symbols["kb"]}
    folded: dict[str, set[Unit]] = {}
    for symbol, unit in symbols.items():
        folded.setdefault(symbol.casefold(), set()).add(unit)
    return symbols, names, {name: next(iter(own)) for name, own in folded.items() if len(own) == 1}


def _simple(dimensions: str, size: Fraction) -> Unit:
    parts = [part.partition("^") for part in dimensions.split()]
    return Unit(tuple(sorted((name, int(power or 1)) for name, _, power in parts)), size)
