"""One check at load: does this model, as it will be trained, compute what the plain model computes?

A few random rows go through the product's own packing, prompt sharing and forward in training mode, and one by one
through the Hugging Face model's own forward in evaluation mode, with eager attention and whole logits. If they agree
the rows are packed; if not, they are computed one at a time with the family's own attention, if that agrees; if that
does not either the model is refused. Sliding windows are narrowed during the check so that they show on short rows.

What is compared is the log-prob of every token but the first (nat), of a scalar head the hidden state below it
(length of the difference over length). float32: the largest difference counts. bfloat16: the largest mean over rows of
one kind, because single tokens differ by rounding; the limit is a multiple of what two of transformers' own attention
implementations differ by on the same rows, within fixed bounds. Rounding may hide a small leak between packed rows, so
leaks are looked for directly: other ids in some rows must leave the results of the others as they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig

from raylign.actors.learner.layouts import EAGER, RowLayout, attention
from raylign.actors.learner.model import RELATIVE, PackedInputs, PackedModel, packed_inputs
from raylign.batch import Batch, offsets_of
from raylign.packing import MicroBatch, pack

# (group, prompt length, lengths of the rows): a shared prompt, a row alone, the shortest row that has a loss
ROWS = ((0, 9, (21, 14, 30)), (1, 5, (40,)), (2, 1, (2,)), (3, 6, (7, 22)))
WINDOW = 8  # tokens that a narrowed window sees
WINDOWS = re.compile(r"((^|_)window(_size)?|sliding_window_size|attention_chunk_size|local_attention)$")
LOWEST = {torch.float32: 1e-4, torch.bfloat16: 0.02}  # limits, whatever the rounding of the model
HIGHEST = {torch.float32: 1e-3, torch.bfloat16: 0.15}
ALONE = {torch.float32: 1e-3, torch.bfloat16: 0.3}  # limit for rows by themselves, which cannot leak
LEAK = {torch.float32: 1e-4, torch.bfloat16: 0.01}  # what other ids in a row may change in another
OTHER = (0, 3)  # rows that get other ids behind their prompt: one that shares it, and the longest
ROUNDING = 4.0  # times the difference of two exact computations that are still rounding

Run = Callable[..., tuple[Tensor, ...]]  # the packed model, or the DeepSpeed engine around it
Agree = Callable[[float], float]  # the largest of a number over all ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Exactness:
    """What the check measured. `packed` and `rows` say why that layout is not right; empty: it is, or was not tried.

    Example: ``Exactness(model="BambaForCausalLM", layout=RowLayout.ROWS, gap=2e-7, limit=1e-4, packed="rows ...")``
    """

    model: str
    layout: RowLayout | None  # None: no layout is right
    gap: float  # of the layout that is used, or of the last that was tried; infinite when it raised
    limit: float
    packed: str = ""
    rows: str = ""

    @property
    def note(self) -> str:
        """One line about a model that is not packed; empty for one that is."""
        if self.layout is RowLayout.PACKED:
            return ""
        if self.layout is RowLayout.ROWS:
            return f"{self.model} is computed one row at a time, without shared prompts: packed, {self.packed}"
        return f"{self.model} cannot be computed exactly: packed, {self.packed}; one row at a time, {self.rows}"


def check_model(
    model: PackedModel,
    *,
    share_prompts: bool = True,
    run: Run | None = None,
    device: torch.device | None = None,
    agree: Agree = lambda gap: gap,
) -> Exactness:
    """Find the layout in which the model is exact, and leave it set; random state and weights stay as they are.

    run: calls the model (default: itself). agree: makes ranks decide alike; with several of them the call is
    collective. Raises ValueError when the plain model cannot be computed. It does not raise for a model that no layout
    computes: see `settle`.
    """
    check = _Check(model, run or model, device or model.hf.device, agree)
    training = model.training
    with torch.random.fork_rng(), torch.no_grad(), narrow_windows(model.hf):
        try:
            result = check.search(share_prompts)
        finally:
            model.train(training)
    if result.layout is not None:
        model.layout = result.layout
    return result


def settle(model: PackedModel, **settings: object) -> Exactness:
    """`check_model`, which must find a layout. Raises ValueError, one line that names the model and why, otherwise."""
    result = check_model(model, **settings)  # type: ignore[arg-type]
    if result.layout is None:
        raise ValueError(result.note)
    return result


class _Check:
    def __init__(self, model: PackedModel, run: Run, device: torch.device, agree: Agree) -> None:
        self.model, self.run, self.device, self.agree = model, run, device, agree
        self.name = type(model.hf).__name__
        self.batch = check_rows(model.hf.config.get_text_config())
        self.dtype = model.hf.dtype

    def search(self, share_prompts: bool) -> Exactness:
        before = _versions(self.model)
        try:
            plain = self.plain(EAGER)
        except torch.OutOfMemoryError:
            raise
        except Exception as cause:
            raise ValueError(f"{self.name} cannot be checked: its own forward fails ({_line(cause)})") from cause
        if not np.isfinite(plain).all():
            raise ValueError(f"{self.name} cannot be checked: its own forward gives values that are not finite")
        limit = self.limit(plain)
        packed, gap = self.compare(RowLayout.PACKED, plain, share_prompts, limit)
        rows, layout = "", RowLayout.PACKED
        if packed:
            layout = RowLayout.ROWS
            for implementation in dict.fromkeys((self.model.own_attention, EAGER)):
                self.model.own_attention = implementation
                rows, gap = self.compare(layout, plain, False, ALONE[self.dtype])
                if not rows:
                    break
        if _versions(self.model) != before:
            raise ValueError(f"{self.name} cannot be trained: its forward changes its own weights")
        right = None if packed and rows else layout
        return Exactness(model=self.name, layout=right, gap=gap, limit=limit, packed=packed, rows=rows)

    def compare(self, layout: RowLayout, plain: NDArray[np.float32], share: bool, limit: float) -> tuple[str, float]:
        """Why the layout is not right (empty: it is), and by how much."""
        self.model.train()
        self.model.layout = layout
        problem, gaps, leaks = "", {"": float("inf")}, {"": 0.0}
        try:
            mine = self.packed(self.batch, share)
            gaps = self.gaps(mine, plain)
            if layout is RowLayout.PACKED:
                leaks = self.gaps(self.packed(_with_other_ids(self.batch), share), mine, without=OTHER)
        except torch.OutOfMemoryError:
            raise
        except Exception as cause:  # noqa: BLE001 - whatever a family raises is why the layout is not used
            problem = f"it fails ({_line(cause)})"
        gap, leak = self.agree(max(gaps.values())), self.agree(max(leaks.values()))
        if not problem and not gap <= limit:
            problem = f"{_worst(gaps)} differ by {gap:.2g} {self.model.unit} from the plain model (limit {limit:.2g})"
        elif not problem and not leak <= LEAK[self.dtype]:
            problem = f"{_worst(leaks)} change by {leak:.2g} {self.model.unit} with the ids of other rows"
        return problem, gap

    def packed(self, batch: Batch, share: bool) -> NDArray[np.float32]:
        return self.tokens(pack(batch, 1, batch.tokens, share)[0], batch)

    def limit(self, plain: NDArray[np.float32]) -> float:
        noise = float("inf")
        if self.model.own_attention != EAGER:
            noise = self.agree(max(self.gaps(self.plain(self.model.own_attention), plain).values()))
        return float(min(max(LOWEST[self.dtype], ROUNDING * noise), HIGHEST[self.dtype]))

    def plain(self, implementation: str) -> NDArray[np.float32]:
        """[N, 1 or E] of every token but the rows' first, row by row."""
        self.model.eval()
        self.model.layout = RowLayout.PLAIN
        with attention(self.model.hf, implementation):
            return self.tokens([_whole(self.batch, row) for row in range(len(self.batch))], self.batch)

    def tokens(self, plan: list[MicroBatch], batch: Batch) -> NDArray[np.float32]:
        parts: list[NDArray[np.float32]] = []
        for micro in plan:
            inputs: PackedInputs = packed_inputs(micro, batch, self.device)
            output = self.run(inputs, states=True)[0].float().cpu().numpy()
            parts.append(output.reshape(len(output), -1))
        values = np.concatenate(parts)
        index = np.concatenate([micro.token_index for micro in plan])
        full = np.zeros((batch.tokens, values.shape[1]), np.float32)
        full[index] = values
        return full

    def gaps(
        self, mine: NDArray[np.float32], other: NDArray[np.float32], without: tuple[int, ...] = ()
    ) -> dict[str, float]:
        """The difference by kind of rows; infinite where it is not a number."""
        difference = np.linalg.norm(mine - other, axis=1)
        if self.model.unit == RELATIVE:
            difference = difference / np.maximum(np.linalg.norm(other, axis=1), 1e-6)
        difference = np.nan_to_num(difference, nan=np.inf)
        merge = np.max if self.dtype == torch.float32 else np.mean
        row = self.batch.row_of_token
        counts = self.batch["loss_mask"].astype(bool) & ~np.isin(row, without)
        sizes = np.bincount(self.batch.groups)[self.batch.groups]
        shares = (sizes > 1)[row]
        kinds = {"rows with a shared prompt": shares, "rows by themselves": ~shares}
        return {kind: float(merge(difference[counts & where])) for kind, where in kinds.items()}


def check_rows(config: PretrainedConfig) -> Batch:
    """The rows of the check: random ids, without those that a config names, and a loss on every token but the first."""
    rng = np.random.default_rng(0)
    named = {value for name, value in vars(config).items() if name.endswith("_token_id") and isinstance(value, int)}
    ids = np.setdiff1d(np.arange(int(config.vocab_size)), list(named))
    tokens, mask, lengths, prompts, groups = [], [], [], [], []
    for group, prompt, rows in ROWS:
        shared = rng.choice(ids, prompt)
        for length in rows:
            tokens.append(np.concatenate([shared, rng.choice(ids, length - prompt)]))
            mask.append(np.arange(length) > 0)
            lengths.append(length)
            prompts.append(prompt)
            groups.append(group)
    return Batch(
        offsets=offsets_of(lengths),
        prompt_lengths=np.array(prompts, np.int32),
        groups=np.array(groups, np.int32),
        streams={"token_ids": np.concatenate(tokens).astype(np.int32), "loss_mask": np.concatenate(mask)},
    )


@contextmanager
def narrow_windows(module: nn.Module) -> Iterator[None]:
    """Let windows of attention, in configs and in modules, see at most `WINDOW` tokens for a while."""
    holders: dict[int, dict[str, object]] = {}
    for part in module.modules():
        holders[id(part)] = vars(part)
        if isinstance(config := getattr(part, "config", None), PretrainedConfig):
            holders[id(config)] = vars(config)
    changed = []
    for fields in holders.values():
        for name, value in fields.items():
            if WINDOWS.search(name) and isinstance(value, int) and not isinstance(value, bool) and value > WINDOW:
                changed.append((fields, name, value))
                fields[name] = WINDOW
    try:
        yield
    finally:
        for fields, name, value in changed:
            fields[name] = value


def _with_other_ids(batch: Batch) -> Batch:
    ids = batch["token_ids"].copy()
    for row in OTHER:
        rest = slice(int(batch.offsets[row] + batch.prompt_lengths[row]), int(batch.offsets[row + 1]))
        ids[rest] = np.roll(ids, len(ids) // 2)[rest]
    return replace(batch, streams={**batch.streams, "token_ids": ids})


def _worst(gaps: Mapping[str, float]) -> str:
    return max(gaps, key=lambda kind: gaps[kind])


def _whole(batch: Batch, row: int) -> MicroBatch:
    """One whole row, made without the packing that is checked."""
    start, length = int(batch.offsets[row]), int(batch.lengths[row])
    return MicroBatch(
        rows=np.array([row]),
        token_ids=batch.row(row, "token_ids").astype(np.int64),
        position_ids=np.arange(length),
        segments=np.array([[0, length, 0, 0]]),
        predict_index=np.arange(length - 1),
        token_index=np.arange(start + 1, start + length),
        segment=np.zeros(length - 1, np.int64),
    )


def _versions(model: nn.Module) -> list[int]:
    """How often each weight was written; not counted for weights that ZeRO-3 takes away and brings back."""
    return [weight._version for weight in model.parameters() if not hasattr(weight, "ds_id")]


def _line(cause: BaseException) -> str:
    text = str(cause).strip().splitlines() or [""]
    return f"{type(cause).__name__}: {text[0][:200]}"
