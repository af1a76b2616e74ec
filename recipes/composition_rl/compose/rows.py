"""What was composed as JSON: the payload of one result, and the records of many, by depth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .chain import Chain, ChainOrRejected, CompositionError, Rejected


def payload_of(result: ChainOrRejected) -> dict[str, Any]:
    """The composed record as `chain`, or the reason as `rejected`."""
    return {"rejected": result.reason.value} if isinstance(result, Rejected) else {"chain": result.record()}


def by_depth(rows: Iterable[tuple[str, Mapping[str, Any]]], seeds: Collection[str]) -> dict[int, list[Chain]]:
    """The chains of rows, each with its place, that end with one of the seeds.

    A row is a chain's record, or holds it as ``meta["chain"]``.
    Raises CompositionError on a row that is no chain, and when none is left.
    """
    chains: dict[int, list[Chain]] = defaultdict(list)
    count = 0
    for place, row in rows:
        count += 1
        try:
            chain = Chain.from_record(_record(row))
        except CompositionError as error:
            raise CompositionError(f"{place}: {error}") from error
        if chain.seeds[-1] in seeds:
            chains[chain.depth].append(chain)
    if not chains:
        raise CompositionError(f"none of {count} rows ends with a seed of this run")
    return dict(chains)


def _record(row: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = row.get("meta")
    return meta["chain"] if isinstance(meta, Mapping) and "chain" in meta else row
