"""Variable symbols: which ones a text uses, and two free ones for a link."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .places import DRAWING

MATH = re.compile(r"\$\$(.*?)\$\$|(?<!\\)\$(.*?)(?<!\\)\$|\\\[(.*?)\\\]|\\\((.*?)\\\)", re.DOTALL)
TEXT_COMMAND = re.compile(r"\\(?:text|mbox|textbf|textit|mathrm|operatorname|begin|end)\s*\{[^{}]*\}")
GREEK = re.compile(
    r"\\(alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|upsilon|phi"
    r"|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Sigma|Phi|Psi|Omega)(?![A-Za-z])"
)
COMMAND = re.compile(r"\\[A-Za-z]+")
CONSTANTS = frozenset({"e", "i"})
PAIRS = (("X", "Y"), ("V", "W"), ("T", "U"), ("M", "N"), ("R", "S"), ("P", "Q"), ("J", "K"), ("G", "H"), ("L", "Z"))


@lru_cache(maxsize=65536)
def variables(text: str) -> frozenset[str]:
    """Letters and Greek names that the text's mathematics uses, drawings and the constants e and i left out.

    Example: ``variables("Find $x^2 + \\theta$")`` is ``{"x", "theta"}``
    """
    names: set[str] = set()
    for match in MATH.finditer(DRAWING.sub(" ", text)):
        inside = TEXT_COMMAND.sub(" ", next(part for part in match.groups() if part is not None))
        names |= set(GREEK.findall(inside))
        names |= set(re.findall("[A-Za-z]", COMMAND.sub(" ", inside)))
    return frozenset(names - CONSTANTS)


def clash(first: str, second: str) -> frozenset[str]:
    """Variable symbols that two texts share."""
    return variables(first) & variables(second)


def free_pair(texts: Iterable[str], taken: Iterable[str]) -> tuple[str, str] | None:
    """Two capitals that stand in none of the texts, not even as a lone letter or a label, and are not taken."""
    used = set(taken)
    for text in texts:
        used |= variables(text)
        used |= set(re.findall(r"(?<![A-Za-z])([A-Z])(?![a-z])", text))
        used |= {letter for run in re.findall(r"\b[A-Z]{2,4}\b", text) for letter in run}
    return next(((one, two) for one, two in PAIRS if one not in used and two not in used), None)
