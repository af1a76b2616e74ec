"""Which data a checkpoint was made on: every stage that learns keeps it, and refuses to go on with other data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from raylign.data.prompt_identity import canonical
from raylign.errors import CheckpointError
from raylign.records import Row, content_id


@dataclass(frozen=True, slots=True, kw_only=True)
class DataIdentity:
    """A fingerprint over the rows in their order, and their number. Example: ``identity_of(["a", "b"])``"""

    fingerprint: str
    rows: int

    def state(self) -> dict[str, Any]:
        """The state for the checkpoint."""
        return {"fingerprint": self.fingerprint, "rows": self.rows}

    def check(self, state: Mapping[str, Any] | None) -> None:
        """Raises CheckpointError when a checkpoint's `state` was made on other data, or does not say on which."""
        if state is None:
            raise CheckpointError("the checkpoint does not say on which data it was made; start a new run")
        if state["fingerprint"] != self.fingerprint:
            raise CheckpointError(
                f"the checkpoint was made on other data ({state['rows']} rows or prompts, now {self.rows}); "
                "restore the data set, its template and its limits, or start a new run"
            )


def identity_of(names: Iterable[str]) -> DataIdentity:
    """The identity of rows that have names made of their content."""
    known = list(names)
    return DataIdentity(fingerprint=content_id(*known), rows=len(known))


def identity_of_rows(samples: Sequence[Row]) -> DataIdentity:
    """The identity of rows for the learner: tokens, where the loss is, their numbers, and what their payloads hold."""
    return identity_of(
        sha256(
            sample.token_ids.tobytes()
            + b"|"
            + sample.loss_mask.tobytes()
            + (b"|" + canonical(sample.payload).encode() if sample.payload else b"")
            + (b"|" + canonical(sample.numbers).encode() if sample.numbers else b"")
        ).hexdigest()
        for sample in samples
    )
