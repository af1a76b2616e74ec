r"""The rewritings that bring the many spellings of an answer in LaTeX and plain text to one, in their order."""

from __future__ import annotations

import re
from collections.abc import Callable

Replacement = str | Callable[[re.Match[str]], str]
CURRENCIES = {
    "\u20ac": r"\text{euros}",
    "\u00a3": r"\text{GBP}",
    "\u00a5": r"\text{yen}",
    "\u20b9": r"\text{rupees}",
}
NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)"
FUNCTIONS = "sqrt|arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|infty|theta|alpha|beta"


def _binomial(match: re.Match[str]) -> str:
    over, under = (part.strip("{} ") for part in match.groups() if part is not None)
    return rf"\binom{{{over}}}{{{under}}}"


def _opened(words: str) -> str:
    r"""``\text{red and blue}`` with what joins the words outside: ``\text{red} and \text{blue}``."""
    parts = re.split(r"(?<![a-zA-Z])(and|or)(?![a-zA-Z])", words)
    return "".join(
        f" {part} " if place % 2 else (f"\\text{{{part.strip()}}}" if part.strip(" ,;") else part)
        for place, part in enumerate(parts)
    )


# In this order: each works on what those before it have left.
# fmt: off
RULES: tuple[tuple[re.Pattern[str], Replacement], ...] = tuple((re.compile(pattern), new) for pattern, new in (
    (r"^(-?)\\\$\s*(\d[\d,]*(?:\.\d+)?|\.\d+)$", r"\1\2\\text{dollars}"),
    (r"([\u20ac\u00a3\u00a5\u20b9])\s*(\d[\d,]*(?:\.\d+)?|\.\d+)", lambda match: f"{match[2]}{CURRENCIES[match[1]]}"),
    (r"[\u20ac\u00a3\u00a5\u20b9]", lambda match: CURRENCIES[match[0]]),
    (r"(?<!\\)\\[()\[\]]", ""),
    (r"\\(?:left|right|[bB]igg?[lrm]?)(?![a-zA-Z])\.?", ""),
    (r"\\(?:displaystyle|textstyle|limits|nolimits)(?![a-zA-Z])", ""),
    (r"\\(?:d|t|c)frac(?![a-zA-Z])", r"\\frac"),
    (r"\\(?:lbrace)(?![a-zA-Z])", r"\\{"), (r"\\(?:rbrace)(?![a-zA-Z])", r"\\}"),
    (r"\\(?:lparen)(?![a-zA-Z])", "("), (r"\\(?:rparen)(?![a-zA-Z])", ")"),
    (r"\\(?:lbrack)(?![a-zA-Z])", "["), (r"\\(?:rbrack)(?![a-zA-Z])", "]"),
    (r"\\(?:varnothing|O(?![a-zA-Z]))|\\\{\s*\\\}|\\text\s*\{\s*empty set\s*\}", r"\\emptyset "),
    (r"\\(?:leq|leqslant)(?![a-zA-Z])|<=|=<", r"\\le "), (r"\\(?:geq|geqslant)(?![a-zA-Z])|>=", r"\\ge "),
    (r"\\lt(?![a-zA-Z])", "<"), (r"\\gt(?![a-zA-Z])", ">"), (r"\\neq(?![a-zA-Z])|!=", r"\\ne "),
    (r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)|math(?:rm|bf|it|sf|tt|normal)|[mh]box|operatorname\*?)\s*\{",
     r"\\text{"),
    (r"\{\\(?:rm|bf|it)\s+([^{}]*)\}", r"\\text{\1}"),
    (r"\\text\s*\{\s*i\s*\}|\\imath(?![a-zA-Z])", " i "),
    (r"\\text\s*\{([^{}]*)\^\s*\\circ\s*([CFK])(?![a-zA-Z])([^{}]*)\}", r"\\text{\1deg\2\3}"),
    (r"\\text\s*\{([^{}]*)\^\s*\\circ(?![a-zA-Z])([^{}]*)\}", r"\\text{\1degrees\2}"),
    (r"\\mid(?![a-zA-Z])", "|"),
    # 20^\circ\text{C}, \text{k}\Omega, \mu\text{m}
    (r"(?:\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z]))\s*~?(?:\\text\s*\{\s*([CFK])\s*\}|([CFK])(?![a-zA-Z]))",
     r"\\text{deg\1\2}"),
    (r"\\text\s*\{([^{}]*)\\Omega\s*([^{}]*)\}", r"\\text{\1ohm\2}"),
    (r"\\text\s*\{\s*([a-zA-Z]?)\s*\}\s*\\Omega(?![a-zA-Z])|(?<=\d)(?:\\[,;: ]|[\s~])*([kMGm]?)\s*\\Omega(?![a-zA-Z])",
     r"\\text{\1\2ohm}"),
    (r"\\text\s*\{([^{}]*)\\mu\s*", r"\\text{\1u"), (r"\\mu\s*\\text\s*\{\s*", r"\\text{u"),
    (r"(?<=\d)((?:\\[,;: ]|\s|~)*)\\mu\s*([a-zA-Z]{1,3})(?![a-zA-Z])", r"\1\\text{u\2}"),
    (r"\\text\s*\{\s*(?:\\?%|per\s?cent(?:age)?|pct)\s*\}|\\?%|(?<![a-zA-Z\\])per\s?cent(?:age)?(?![a-zA-Z])", "%"),
    (r"\\text\s*\{\s*\}", " "), (r"\\(?:dots|cdots|dotsc)(?![a-zA-Z])|\.\.\.", r"\\ldots "),
    (r"[\[(]?\s*\\begin\{array\}\s*\{[^{}]*\}(.*)\\end\{array\}\s*[\])]?", r"\\begin{pmatrix}\1\\end{pmatrix}"),
    (r"\\text\s*\{\s*(-?[\d.,/ ]*\d)\s*\}", r"\1"),
    (r"^\\text\s*\{\s*(-?[\d.,/ ]*\d)\s+([a-zA-Z][a-zA-Z. ]*)\}$", r"\1\\text{ \2}"),  # \text{3/4 cup}
    (r"^\\text\s*\{\s*(\d[\d.]*\s+[a-zA-Z]+(?:\s+\d[\d.]*\s+[a-zA-Z]+)+)\s*\}$", r"\1"),  # \text{5 feet 3 inches}
    (r"\\text\s*\{\s*(?:\\?\$)\s*\}|\\?\$", ""),
    (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z])|\\textdegree(?![a-zA-Z])", r"\\text{degrees}"),
    (r",\s*\\!\s*(?=\d)|\{,\}\s*(?=\d)|(?<=\d)\\!\s*(?=\d{3})", ""),  # 1,\!234 and 1{,}234
    (r"\\!", ""),
    (r"(?<=\d)\\[,;: ]\s*(?=\d)|(?<=\d)~(?=\d)|(?<=\d)\{\s+\}(?=\d)", " "),
    (r"(?<!\\)\\[,;: ]|~|\\(?:quad|qquad|thinspace)(?![a-zA-Z])", " "),
    (r"(?<![\d.,])(?<!\d )(\d{1,3})((?: \d{3})+)(?![\d]| \d)", r"\1\2\0"),  # 1 234: the spaces go below
    (r"\*\*(?=\s*[\d({a-zA-Z-])(?<=\w\*\*|\)\*\*|\}\*\*)", "^"), (r"\*", r"\\cdot "),
    (rf"(?<![\w.])({NUMBER})[eE]([+-]?\d+)(?![\w.])", r"\1\\cdot 10^{\2}"),
    (rf"({NUMBER})\s*(?:\\times|\\cdot|x)\s*10\s*\^\s*(?:\{{\s*([+-]?\d+)\s*\}}|\(([+-]?\d+)\)|(-?\d+))",
     r"\1\\cdot 10^{\2\3\4}"),
    (rf"(?<![\\a-zA-Z])({FUNCTIONS})(?![a-zA-Z])", r"\\\1 "),
    (r"(?<![\\a-zA-Z])inf(?:inity)?(?![a-zA-Z])", r"\\infty "),
    (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"), (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
    (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
    (r"\\[dt]?binom(?![a-zA-Z])\s*", r"\\binom"),
    (r"\\binom(\d|\{[^{}]*\})\s*(\d(?!\d)|\{[^{}]*\})", _binomial),
    (r"\{([^{}]*?)\\choose(?![a-zA-Z])\s*([^{}]*)\}|(?<![\w}])(\w+)\s*(?:\\choose(?![a-zA-Z])|choose)\s*(\w+)",
     _binomial),
    (r"(?:\{\s*\}\s*|(?<![\w}]))[_^]\s*(?:\{\s*(\w+)\s*\}|(\w))\s*(?:\\text\{C\}|C)\s*_\s*(?:\{\s*(\w+)\s*\}|(\w))",
     r"\\binom{\1\2}{\3\4}"),
    # relations in words
    (r"\\text\s*\{\s*((?:is )?(?:at least|at most|no (?:more|less|fewer) than|(?:greater|more|less|fewer) than"
     r"(?: or equal to)?|about|approximately|roughly|around|exactly|equals?|is equal to))\s*\}", r" \1 "),
    (r"(?:\bis )?\b(?:at least|no (?:less|fewer) than|(?:greater|more) than or equal to)\b", r"\\ge "),
    (r"(?:\bis )?\b(?:at most|no more than|(?:less|fewer) than or equal to)\b", r"\\le "),
    (r"^([a-zA-Z])\s+(?:is )?(?:greater|more) than\b", r"\1>"),
    (r"^([a-zA-Z])\s+(?:is )?(?:less|fewer) than\b", r"\1<"),
    (r"^([a-zA-Z])\s+(?:equals|is equal to)\b", r"\1="),
    (r"^\s*(?:\\(?:approx|sim|simeq|cong|approxeq)(?![a-zA-Z])|=|:"
     r"|(?:about|approximately|approx\.?|roughly|around|exactly)\b)\s*(?=\S)", ""),
    (r"^([a-zA-Z](?:_\{?\w+\}?)?\s*)\\approx(?![a-zA-Z])", r"\1="), (r"(?<=[\w})!])\s*\\approx(?![a-zA-Z]).*$", ""),
    (r"\(?\s*(?:\\[pb]?mod(?![a-zA-Z])|\\text\{\s*mod(?:ulo)?\s*\}|(?<![a-zA-Z\\])mod(?:ulo)?(?![a-zA-Z]))\s*"
     r"(?:\{\s*(\w+)\s*\}|(\w+))\s*\)?", r"\\pmod{\1\2}"),
    (r"(?<![\w./^{])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d./])", r"\1\\frac{\2}{\3}"),  # 1 1/2
    (r"\\text\s*\{([^{}]*(?<![a-zA-Z])(?:and|or)(?![a-zA-Z])[^{}]*)\}", lambda match: _opened(match[1])),
    (r"\\vee(?![a-zA-Z])|(?<![a-zA-Z\\])or(?![a-zA-Z])", r"\\lor "),
    (r"\\wedge(?![a-zA-Z])|(?<![a-zA-Z\\])and(?![a-zA-Z])", r"\\land "),
    (r"\\text\s*\{\s*(-?\d[\d.,/]*)\s+([a-zA-Z][^{}]*)\}", r"\1\\text{\2}"),
    (r"[,;]\s*\\land(?![a-zA-Z])", ","), (r",(?:\s*,)+", ","),
    (r"\\text\s*\{\s*(-?[\d.,/ ]*\d)\s*\}", r"\1"),
    (r"^\\text\s*\{\s*(-?[\d.,/ ]*\d)\s+([a-zA-Z][a-zA-Z. ]*)\}$", r"\1\\text{ \2}"),  # \text{3/4 cup}
    (r"^\\text\s*\{\s*(\d[\d.]*\s+[a-zA-Z]+(?:\s+\d[\d.]*\s+[a-zA-Z]+)+)\s*\}$", r"\1"),  # \text{5 feet 3 inches}
    (r"\s+", " "),
))
# fmt: on
