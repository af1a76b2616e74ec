"""Reward models as Hugging Face folders: ``*ForSequenceClassification`` of one label, a backbone and ``score.weight``.

    conversation --own chat template--> ids --backbone--> state of one token --score.weight [1, E]--> a number

Whose state that is, the format does not say, and where a template puts something behind the end of a turn (ChatML's
newline) the two candidates differ. An export of raylign says it in config.json, under `MARK`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from raylign.models.headers import Tensor

SCORING = "ForSequenceClassification"  # end of the names of these classes
HEAD = "score.weight"
MARK = "raylign"  # key of config.json


class Reads(Enum):
    """The token whose state the head reads.

    `end_of_turn`: the one with which the assistant's turn ends, which training here reads, too. `rendered`: the last
    of the conversation as ``apply_chat_template`` renders it, as TRL trains.
    """

    end_of_turn = "end_of_turn"
    rendered = "rendered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a reward model is to be asked.

    Example: ``Manner(reads=Reads.end_of_turn, template_args={"enable_thinking": False})``
    """

    reads: Reads
    template_args: Mapping[str, Any] = field(default_factory=dict)


def is_scoring(fields: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a model for classification."""
    names = fields.get("architectures") or []
    return any(name.endswith(SCORING) for name in ([names] if isinstance(names, str) else names))


def labels_of(fields: Mapping[str, Any]) -> int:
    """Outputs of a model for classification, as transformers reads its config.json: two where that says nothing."""
    named = fields.get("id2label")
    return len(named) if isinstance(named, Mapping) else int(fields.get("num_labels") or 2)


def head_faults(weights: Mapping[str, Tensor]) -> Iterator[str]:
    """What is wrong with the scalar head among the weights of a reward model."""
    head = weights.get(HEAD)
    if head is None:
        yield f"holds no {HEAD}, the scalar head of a reward model"
    elif len(head.shape) != 2 or head.shape[0] != 1:
        yield f"has a {HEAD} of shape {list(head.shape)}, which gives no single number"


def stored_dtype(folder: Path) -> str:
    """The type of a folder's weights, as its config.json says; empty where it does not."""
    fields = json.loads((folder / "config.json").read_text())
    told = fields.get("dtype") or fields.get("torch_dtype") or (fields.get("text_config") or {}).get("dtype")
    return str(told or "")


def manner_of(folder: Path) -> Manner | None:
    """What an export of raylign says about itself; None of any other folder. Raises ValueError on what none says."""
    told = json.loads((folder / "config.json").read_text()).get(MARK)
    if told is None:
        return None
    try:
        return Manner(reads=Reads(told["reads"]), template_args=dict(told["template_args"]))
    except (KeyError, TypeError, ValueError) as cause:
        raise ValueError(f"its config.json says {MARK}={told!r}, which no version of this software wrote") from cause


def tell(folder: Path, manner: Manner, ends: Collection[int]) -> None:
    """Write into an exported folder how it is to be asked. ends: tokens that end a turn.

    transformers' own forward reads the last token that is no padding. Where the padding token also ends turns it would
    pass over the state that was trained, so the folder then names none: a batch is refused, and one row read rightly.
    """
    path = folder / "config.json"
    fields = json.loads(path.read_text())
    fields[MARK] = {"reads": manner.reads.value, "template_args": dict(manner.template_args)}
    for settings in (fields, fields.get("text_config") or {}):
        if settings.get("pad_token_id") in ends:
            settings["pad_token_id"] = None
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
