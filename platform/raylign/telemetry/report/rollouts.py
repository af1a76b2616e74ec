"""Rollouts for the page's browser: an index of columns, and chunks that are unpacked only when they are looked at.

index    columns of every rollout (what is filtered and sorted by), prompts, the vocabulary of the ids that occur
texts    what was sampled, TEXTS rollouts a chunk: read by a search
bodies   ids, log-probs, advantages, rewards, BODIES rollouts a chunk: read when a rollout is opened
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raylign.audit.graded import EXPLOIT, GAP, PREFIX
from raylign.telemetry.recorder import read_lines
from raylign.telemetry.report.vocabulary import vocabulary

TEXTS, BODIES = 500, 100  # rollouts in a chunk
MAX_BYTES = 256 << 20  # of rollout files read for one page
PREVIEW = 100  # characters of an entry of the list
DIGITS = 4  # of the numbers that colour tokens


class Rollouts:
    """The rollouts of one run, at most about `limit` of them: then of every k-th recorded step, and of the last.

    ``index`` is for the page's start; ``texts()`` and ``bodies()`` give the chunks.
    """

    def __init__(self, folder: Path, limit: int, tokenizers: Sequence[Path]) -> None:
        files = sorted((folder / "rollouts").glob("step_*.jsonl"))
        counts = [path.read_bytes().count(b"\n") for path in files]
        self.recorded = sum(counts)
        size = sum(path.stat().st_size for path in files)
        every = max(1, math.ceil(self.recorded / max(1, limit)), math.ceil(size / MAX_BYTES))
        chosen = files[::every] if limit else []
        if files and chosen and files[-1] not in chosen:
            chosen.append(files[-1])
        self.every = every
        self._rows = [row for path in chosen for row in read_lines(path)]
        self._prompts: dict[str, int] = {}
        self._firsts = []
        for row in self._rows:
            if row["prompt"] not in self._prompts:
                self._prompts[row["prompt"]] = len(self._prompts)
                self._firsts.append(row)
        self._tokenizers = tokenizers

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def index(self) -> dict[str, Any]:
        """Columns by name; `stage` and `stop` are indices into `stages` and `stops`."""
        rows = self._rows
        stages = list(dict.fromkeys(row.get("stage") or "" for row in rows))
        stops = sorted({row["stop"] for row in rows})
        names = list(dict.fromkeys(name for row in rows for name in row.get("rewards", {})))
        ids = {i for row in rows for turn in row["turns"] for key in ("context_ids", "token_ids") for i in turn[key]}
        return {
            "recorded": self.recorded,
            "every": self.every,
            "texts": TEXTS,
            "bodies": BODIES,
            "stages": stages,
            "stops": stops,
            "columns": {
                "step": [row["step"] for row in rows],
                "stage": [stages.index(row.get("stage") or "") for row in rows],
                "stop": [stops.index(row["stop"]) for row in rows],
                "prompt": [self._prompts[row["prompt"]] for row in rows],
                "sample": [row["sample"] for row in rows],
                "score": [row.get("score") for row in rows],
                "advantage": [_mean(row.get("advantage")) for row in rows],
                "tokens": [sum(len(turn["token_ids"]) for turn in row["turns"]) for row in rows],
                "turns": [len(row["turns"]) for row in rows],
                "exploit": [row.get("metrics", {}).get(EXPLOIT) for row in rows],
            },
            "rewards": {name: [_score(row.get("rewards", {}).get(name)) for row in rows] for name in names},
            "previews": [" ".join(row["text"][: 2 * PREVIEW].split())[:PREVIEW] for row in rows],
            "prompts": [_prompt(row) for row in self._firsts],
            "vocabulary": vocabulary(ids, self._tokenizers),
        }

    def exploits(self, most: int) -> list[dict[str, Any]]:
        """The most telling of the samples that an audit calls exploits, as {"row", "prompt", "text", "score", "gap",
        "rewards", "grades"}: the widest gaps first, of
        equal ones the last, every prompt once before any twice.
        """
        flagged = [number for number, row in enumerate(self._rows) if row.get("metrics", {}).get(EXPLOIT)]
        flagged.sort(key=lambda number: (self._rows[number]["metrics"].get(GAP, 0.0), number), reverse=True)
        seen: Counter[str] = Counter()
        rounds = {}
        for number in flagged:
            rounds[number] = seen[self._rows[number]["prompt"]]
            seen[self._rows[number]["prompt"]] += 1
        return [_telling(number, self._rows[number]) for number in sorted(flagged, key=rounds.__getitem__)[:most]]

    def texts(self) -> Iterator[list[str]]:
        """Sampled text, chunk by chunk."""
        for first in range(0, len(self._rows), TEXTS):
            yield [row["text"] for row in self._rows[first : first + TEXTS]]

    def bodies(self) -> Iterator[list[dict[str, Any]]]:
        """Everything else that the record holds, chunk by chunk."""
        for first in range(0, len(self._rows), BODIES):
            yield [_body(row) for row in self._rows[first : first + BODIES]]


def _telling(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    scores = {name: _score(reward) for name, reward in row.get("rewards", {}).items()}
    message = row["messages"][-1].get("content") if row.get("messages") else ""
    return {
        "row": number,
        "step": row["step"],
        "stage": row.get("stage") or "",
        "prompt": message if isinstance(message, str) else str(message),
        "text": row["text"],
        "score": row.get("score"),
        "gap": row["metrics"].get(GAP),
        "rewards": {name: value for name, value in scores.items() if not name.startswith(PREFIX)},
        "grades": {name.removeprefix(PREFIX): value for name, value in scores.items() if name.startswith(PREFIX)},
    }


def _prompt(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": row["prompt"],
        "messages": row.get("messages", []),
        "answer": row.get("answer"),
        "domain": row.get("domain", ""),
        "tokens": len(row.get("prompt_ids", ())),
    }


def _body(row: Mapping[str, Any]) -> dict[str, Any]:
    streams = {"advantage": row.get("advantage"), "weight": row.get("weight"), "gap": row.get("gap")}
    return {
        "seed": str(row.get("seed", "")),  # beyond 2^53: no number in JavaScript
        "rewards": row.get("rewards", {}),
        "metrics": row.get("metrics", {}),
        "turns": [
            {
                "context": turn["context_ids"],
                "ids": turn["token_ids"],
                "logprobs": _short(turn["logprobs"]),
                "versions": sorted(set(turn["versions"])),
                "stop": turn["stop"],
                "text": turn.get("text", ""),
                "role": turn.get("role", ""),
                "reward": turn.get("reward"),
                "flags": turn.get("flags", {}),
            }
            for turn in row["turns"]
        ],
        **{name: _short(values) if isinstance(values, list) else values for name, values in streams.items()},
    }


def _short(values: Sequence[float]) -> np.ndarray:
    """Rounded to a few digits; as float32, which is written in its shortest form."""
    numbers = np.asarray(values, np.float64)
    if not len(numbers):
        return numbers.astype(np.float32)
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.maximum(np.abs(numbers), 1e-12))))
    return (np.round(numbers * scale) / scale).astype(np.float32)


def _score(reward: Mapping[str, Any] | None) -> float | None:
    return None if reward is None else reward.get("score")


def _mean(advantage: Any) -> float | None:
    """Over the tokens that are learned from."""
    if isinstance(advantage, list):
        learned = [value for value in advantage if value is not None]
        return float(np.float32(np.mean(learned))) if learned else None
    return None if advantage is None else float(np.float32(advantage))
