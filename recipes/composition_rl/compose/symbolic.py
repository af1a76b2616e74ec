"""The composer that needs no model: rules for v1, v2, the symbols and the link, and the checks on the result.

Two styles. `sentence`: natural-language problems such as MATH ("Define $X$ as ...", "$Y$ is $-10$ more than $X$.").
`formula`: arithmetic such as ``3*4?``, which becomes ``X=3*4;Y=X+9;Y*5?`` with the link modulo `modulus`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

from .chain import Chain, ChainOrRejected, Link, Reason, Rejected
from .drive import Work
from .latex import Unreadable, latex, parse
from .operation import assemble, distinct, joined, relation_sentence
from .places import Place, places, substitute
from .symbols import PAIRS, clash, free_pair
from .values import derive

RELATION = re.compile(r"\$(?P<second>[^$]+)\$ is \$(?P<delta>[^$]+)\$ more than \$(?P<first>[^$]+)\$\.")
DECIMALS = 2  # to which irrational constants are compared


class Style(Enum):
    """How problems are written."""

    sentence = "sentence"
    formula = "formula"


class RuleComposer:
    """Composes by rule, without a language model."""

    @dataclass
    class Config:
        """How problems are written."""

        style: Style = Style.sentence
        modulus: int = 0  # formula: links are taken modulo this, 0: over the integers

        def __post_init__(self) -> None:
            if self.modulus < 0 or (self.modulus and self.style is Style.sentence):
                raise ValueError("modulus is for style=formula and is 0 or more")

    def __init__(self, config: Config) -> None:
        self.config = config

    def work(self, first: Chain, second: Chain) -> Work:
        """The outcome at once; the generator yields nothing."""
        yield from ()
        shared = distinct(first, second)
        if shared is not None:
            return shared
        return self._formula(first, second) if self.config.style is Style.formula else _sentence(first, second)

    def _formula(self, first: Chain, second: Chain) -> ChainOrRejected:
        if not re.fullmatch(r"-?\d+", first.answer):
            return Rejected(reason=Reason.NO_VALUE, detail=first.answer)
        start, end = second.own
        number = re.search(r"\d+", second.text[start:end])
        if number is None:
            return Rejected(reason=Reason.NO_NUMBER)
        pair = next((pair for pair in PAIRS if not second.symbols & set(pair)), None)
        if pair is None:
            return Rejected(reason=Reason.SYMBOL_CLASH, detail="no two symbols left")
        one, two = pair
        delta = int(number.group()) - int(first.answer)
        delta = delta % self.config.modulus if self.config.modulus else delta
        question = first.text.rstrip("?")
        definition, relation = f"{one}={question}", f"{two}={one}{delta:+d}"
        modified = second.text[: start + number.start()] + two + second.text[start + number.end() :]
        link = Link(
            symbol1=one,
            value1=first.answer,
            definition=definition,
            symbol2=two,
            value2=number.group(),
            delta=str(delta),
            relation=relation,
        )
        own = (len(one) + 1, len(definition))
        return joined(first, second, link, f"{definition};{relation};{modified}", own)


def _sentence(first: Chain, second: Chain) -> ChainOrRejected:
    derived = derive(first.answer)
    if derived is None:
        return Rejected(reason=Reason.NO_VALUE, detail=first.answer[:80])
    if not _solution_agrees(first):
        return Rejected(reason=Reason.V1_NOT_RECOVERED, detail="the solution ends with another answer")
    candidates, repeated = places(second.text, second.own)
    if not candidates:
        return Rejected(reason=Reason.AMBIGUOUS_NUMBER if repeated else Reason.NO_NUMBER)
    shared = clash(first.text, second.text)
    pair = free_pair((first.text, second.text), second.symbols)
    if shared or pair is None:
        return Rejected(reason=Reason.SYMBOL_CLASH, detail=" ".join(sorted(shared)) or "no two symbols left")
    place = candidates[0]
    modified = substitute(second.text, place, pair[1])
    recovered = recovered_value(second.text, modified, pair[1])
    if recovered is None or recovered != place.value:
        return Rejected(reason=Reason.V2_NOT_RECOVERED, detail=place.literal)
    link = _link(derived.value, derived.phrase, place, pair)
    return checked(first, second, link, modified)


def _link(value1: Any, phrase: str, place: Place, pair: tuple[str, str]) -> Link:
    import sympy

    value2 = sympy.Rational(place.value.numerator, place.value.denominator)
    delta = latex(value2 - value1)
    return Link(
        symbol1=pair[0],
        value1=latex(value1),
        definition=f"Define ${pair[0]}$ as {phrase}.",
        symbol2=pair[1],
        value2=latex(value2),
        delta=delta,
        relation=relation_sentence(pair[1], delta, pair[0]),
    )


def checked(first: Chain, second: Chain, link: Link, modified: str) -> ChainOrRejected:
    """The assembled chain, unless its link or its wording fails a check (LINK_WRONG, LEAK)."""
    if not link_holds(link.relation, link):
        return Rejected(reason=Reason.LINK_WRONG, detail=link.relation)
    if leaks(link.definition, link.value1, first.text):
        return Rejected(reason=Reason.LEAK, detail=link.definition)
    glue = "\n" if first.text.endswith("[/asy]") else " "
    text = assemble(first.text, link.definition, link.relation, modified, glue)
    return joined(first, second, link, text, (0, len(first.text)))


def link_holds(relation: str, link: Link) -> bool:
    """Whether the sentence, read back, leads from v1 to v2; irrational values are compared to two decimals."""
    match = RELATION.fullmatch(relation)
    if match is None or (match["first"], match["second"]) != (link.symbol1, link.symbol2):
        return False
    try:
        reached = parse(link.value1) + parse(match["delta"])
        return same_value(reached, parse(link.value2))
    except (Unreadable, ZeroDivisionError):
        return False


def same_value(first: Any, second: Any) -> bool:
    """Exact for rationals, to two decimals for irrational constants."""
    if first.is_Rational and second.is_Rational:
        return bool(first == second)
    return abs(float(first) - float(second)) < 0.5 * 10**-DECIMALS


def leaks(definition: str, value1: str, problem: str = "") -> bool:
    """Whether a definition says the value that it should leave to be found, and the problem itself does not."""
    said = rf"(?<![\d.\w]){re.escape(value1)}(?![\d\w]|\.\d)"
    return re.search(said, definition) is not None and re.search(said, problem) is None


def recovered_value(original: str, modified: str, symbol: str) -> Fraction | None:
    """v2 by comparing the two texts: what stands in the original where the modified text has the symbol."""
    for spelled in (f"${symbol}$", "{" + symbol + "}", symbol):
        for match in re.finditer(re.escape(spelled), modified):
            before, after = modified[: match.start()], modified[match.end() :]
            if original.startswith(before) and original.endswith(after) and len(before) + len(after) < len(original):
                literal = original[len(before) : len(original) - len(after)]
                candidates, _ = places(original, (len(before), len(before) + len(literal)))
                recovered = next((place.value for place in candidates if place.literal == literal), None)
                if recovered is not None:
                    return recovered
    return None


def _solution_agrees(first: Chain) -> bool:
    """Whether the seed's worked solution, where it brings one, ends with the same answer."""
    stated = first.notes.get("solution_answer")
    return stated is None or "".join(str(stated).split()) == "".join(first.answer.split())
