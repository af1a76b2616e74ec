"""The composition operator: q12 = q1 and its definition, the relation, q2 with a variable in the place of v2.

Compose((q1, gt1), (q2, gt2)) = (q12, gt2) with delta = v2 - v1 and the relation "Y is delta more than X" (arXiv
2602.12036, section 3; always the "more" form, so that delta may be negative). SPC(q1..qK) = Compose(q1, SPC(q2..qK)).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from .chain import Chain, ChainOrRejected, Link, Reason, Rejected


def relation_sentence(symbol2: str, delta: str, symbol1: str) -> str:
    """The linking sentence of natural-language problems; delta is LaTeX and carries its own sign."""
    return f"${symbol2}$ is ${delta}$ more than ${symbol1}$."


def assemble(first: str, definition: str, relation: str, second: str, glue: str = " ") -> str:
    """q1, its definition, the relation and the modified q2 as one text."""
    return f"{first}{glue}{definition}\n{relation}\n{second}"


def joined(first: Chain, second: Chain, link: Link, text: str, own: tuple[int, int]) -> Chain:
    """The chain of two problems whose text was assembled; the answer is the last problem's, untouched."""
    return Chain(
        text=text,
        answer=second.answer,
        seeds=first.seeds + second.seeds,
        own=own,
        links=(*first.links, link, *second.links),
        domain=second.domain if first.domain == second.domain else f"{first.domain}+{second.domain}",
    )


def distinct(first: Chain, second: Chain) -> Rejected | None:
    """A rejection when the two share a seed."""
    shared = set(first.seeds) & set(second.seeds)
    return Rejected(reason=Reason.SAME_SEED, detail=", ".join(sorted(shared))) if shared else None


def spc(problems: Sequence[Chain], compose: Callable[[Chain, Chain], ChainOrRejected]) -> ChainOrRejected:
    """Sequential prompt composition of K problems: K - 1 calls from the right; the answer is that of the last.

    Raises ValueError on an empty sequence.
    """
    if not problems:
        raise ValueError("a chain needs at least one problem")
    chain: ChainOrRejected = problems[-1]
    for problem in reversed(problems[:-1]):
        if isinstance(chain, Rejected):
            return chain
        chain = compose(problem, chain)
    return chain


async def spc_async(
    problems: Sequence[Chain], compose: Callable[[Chain, Chain], Awaitable[ChainOrRejected]]
) -> ChainOrRejected:
    """The same with a composer that has to wait."""
    chain: ChainOrRejected = problems[-1]
    for problem in reversed(problems[:-1]):
        if isinstance(chain, Rejected):
            return chain
        chain = await compose(problem, chain)
    return chain


def side_by_side(problems: Sequence[Chain], line: str = "\n") -> Chain:
    """The control of the paper's ablation: the texts one after another, no link, the answer of the last."""
    last = problems[-1]
    text = line.join(problem.text for problem in problems)
    return replace(last, text=text, seeds=tuple(seed for problem in problems for seed in problem.seeds), links=())
