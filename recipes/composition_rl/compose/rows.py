"""What was composed as JSON: the payload of one result, and a file of chains with one record a line."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from .chain import Chain, ChainOrRejected, CompositionError, Reason, Rejected


def payload_of(result: ChainOrRejected) -> dict[str, Any]:
    """The composed record as `chain`, or the reason as `rejected`."""
    return {"rejected": result.reason.value} if isinstance(result, Rejected) else {"chain": result.record()}


def result_of(payload: Mapping[str, Any]) -> ChainOrRejected:
    """What `payload_of` wrote; an empty payload is that of a composer who failed (NO_REPLY)."""
    if "chain" in payload:
        return Chain.from_record(payload["chain"])
    return Rejected(reason=Reason(payload.get("rejected", Reason.NO_REPLY)))


def write_rows(path: Path, chains: Iterable[Chain]) -> None:
    """Write the records, in the order of the chains' ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = (chain.record() for chain in sorted(chains, key=lambda chain: chain.id))
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def rows_in(path: Path) -> list[dict[str, Any]]:
    """The records that `write_rows` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_depth(rows: Iterable[tuple[str, Mapping[str, Any]]], seeds: Collection[str]) -> dict[int, list[Chain]]:
    """The chains of rows, each with its place, that end with one of the seeds.

    Raises CompositionError on a row that is no chain, and when none is left.
    """
    chains: dict[int, list[Chain]] = defaultdict(list)
    count = 0
    for place, row in rows:
        count += 1
        try:
            chain = Chain.from_record(row)
        except CompositionError as error:
            raise CompositionError(f"{place}: {error}") from error
        if chain.seeds[-1] in seeds:
            chains[chain.depth].append(chain)
    if not chains:
        raise CompositionError(f"none of {count} rows ends with a seed of this run")
    return dict(chains)
