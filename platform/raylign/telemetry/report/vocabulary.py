"""The bytes behind token ids, so that a page can show tokens without a tokenizer."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from raylign.chat.pieces import bytes_of
from raylign.run_folder import flatten
from raylign.telemetry.report.folder import Records


def tokenizers_of(run: Records) -> list[Path]:
    """Candidate paths of the run's tokenizer, best first: its own models, then the model that a stage started from."""
    trained = sorted((run.folder / "stages").glob("*/model/tokenizer.json"))
    started = [event.get("model", "") for event in run.events if event["kind"] == "stage_started"]
    outside = [*reversed(started), str(flatten(run.resolved).get("model.path", ""))]
    return [*trained, *(Path(path).expanduser() / "tokenizer.json" for path in outside if path)]


def vocabulary(ids: Iterable[int], places: Sequence[Path]) -> dict[str, list[Any]] | None:
    """{"ids": [..], "pieces": [base64 of the token's bytes]}; None when no tokenizer of the run can be found.

    A token that is a part of a character keeps its bytes, so that neighbours can be joined.
    """
    place = next((path for path in places if path.is_file()), None)
    wanted = sorted(set(ids))
    if place is None or not wanted:
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(place))
    pieces = [base64.b64encode(bytes_of(tokenizer, number)).decode() for number in wanted]
    return {"ids": wanted, "pieces": pieces}
