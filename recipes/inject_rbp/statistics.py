"""What traces look like, and how far those of right and wrong answers, and those of families, are apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raylign.recipes.inject_rbp.behaviours import CONCLUSION
from raylign.recipes.inject_rbp.differences import difference, difference_within
from raylign.recipes.inject_rbp.history import Trace
from raylign.recipes.inject_rbp.patterns import ORDER, counts_of


def of_traces(traces: Sequence[Trace], right: float) -> dict[str, float]:
    """Share of right ones, paragraphs of each, and the shares that have a pattern and that come to a conclusion."""
    chains = [trace.chain for trace in traces]
    return {
        "right": float(np.mean([trace.score >= right for trace in traces])),
        "length": float(np.mean([len(chain) for chain in chains])),
        "structured": float(np.mean([len(chain) >= ORDER for chain in chains])),
        "concluded": float(np.mean([CONCLUSION in chain for chain in chains])),
    }


def of_outcomes(traces: Sequence[Trace], right: float, permutations: int, seed: int) -> dict[str, float]:
    """``js/outcome`` between right and wrong traces; p with the traces permuted, and within each question alone.

    Nothing where all are right, or none.
    """
    counts, labels = counts_of([t.chain for t in traces]), np.array([t.score >= right for t in traces])
    free = difference(counts, labels, [str(number) for number in range(len(traces))], permutations, seed)
    within = difference_within(counts, labels, [trace.asked for trace in traces], permutations, seed)
    if free is None or within is None:
        return {}
    return {"js/outcome": free.divergence, "p/outcome": free.p, "p_within_question/outcome": within.p}


def of_families(traces: Sequence[Trace], permutations: int, seed: int) -> dict[str, float]:
    """``js/families/<name>`` between a family and all others together; p with whole questions permuted.

    Nothing where there is one family.
    """
    counts, metrics = counts_of([trace.chain for trace in traces]), dict[str, float]()
    names = sorted({trace.family for trace in traces})
    units = [f"{trace.family}\x1f{trace.asked}" for trace in traces]
    for name in names if len(names) > 1 else ():
        labels = np.array([trace.family == name for trace in traces])
        apart = difference(counts, labels, units, permutations, seed)
        if apart is not None:
            metrics |= {f"js/families/{name}": apart.divergence, f"p/families/{name}": apart.p}
    return metrics
