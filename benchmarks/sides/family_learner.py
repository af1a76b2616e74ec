"""The learner's half of `benchmarks.families`: what it computes for a family, and what it publishes.

Runs in a process of its own; the engine must not share it, since vLLM changes transformers' classes that it wraps.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.sides.families import BY_NAME, build

UPDATES = 2
PROMPT, ROW = 12, 48  # tokens of the prompt that the engine continues, and of the row that it scores
LAYOUT, LEARNER, ENGINE = "layout.json", "learner.json", "engine.json"  # what the halves leave for each other
PATIENCE_S = 180.0  # for the engine's half


def learn(name: str, folder: str, engine: bool) -> None:
    """Build the family in `folder`/model, compare, publish versions 0 to 2, and compare again with what was sampled."""
    path = Path(folder)
    result: dict[str, Any] = {}
    try:
        learner = _Learner(build(BY_NAME[name], path / "model"))
        result = learner.compare()
        _write(path / LEARNER, result)
        if engine and (policies := learner.publish(path)):
            _write(path / LAYOUT, policies)
            result |= learner.judge(_await(path / ENGINE))
    except ValueError as cause:  # the product's own word for a model that it does not compute
        result["refused"] = _line(cause)
    _write(path / LEARNER, result | {"done": True})


class _Learner:
    """The product's packed model of a folder, and its weights version by version."""

    def __init__(self, folder: Path) -> None:
        from raylign.actors.learner.exactness import settle
        from raylign.actors.learner.layouts import RowLayout
        from raylign.actors.learner.loading import load_model
        from raylign.actors.learner.published import published_groups
        from raylign.actors.learner.spec import LearnerSpec
        from raylign.config.schema import LearnerConfig

        self.folder = folder
        self.model = load_model(LearnerSpec(model_path=str(folder), learner=LearnerConfig(), total_steps=1))
        settle(self.model)
        self.packed = self.model.layout is RowLayout.PACKED
        self.groups = published_groups(self.model.hf)
        self.versions: list[list[Any]] = []

    def compare(self) -> dict[str, Any]:
        """Rows of up to 64 tokens, packed with shared prompts and in training mode, against the plain model."""
        batch = _rows()
        self.model.train()
        mine, plain = self._packed(batch), _plain(self.folder, batch)
        return {
            "model": type(self.model.hf).__name__,
            "layout": str(self.model.layout),
            "gap": float(np.abs(mine - plain)[batch["loss_mask"]].max()),
        }

    def publish(self, path: Path) -> dict[str, Any]:
        """Write versions 0 to 2 of the flat buffer; the layout, each version's digests and log-probs of the probe."""
        import torch

        from raylign.actors.learner.probe import ROWS, first_ids, probe_batch, sample_rows
        from raylign.weights import digests_of, fill, layout_of, total_bytes

        first = first_ids(str(self.folder), self.model.hf.config.get_text_config().vocab_size, 0)[:ROWS]
        with torch.no_grad():
            probe = sample_rows(first, lambda inputs, step: self.model(inputs, sample_seed=step), torch.device("cpu"))
        layout = layout_of(shape for group in self.groups for shape in group.shapes)
        generator = torch.Generator().manual_seed(1)
        expected, digests = [], []
        for version in range(UPDATES + 1):
            if version:
                self._update(generator)
            self.versions.append([parameter.detach().clone() for parameter in self.model.parameters()])
            buffer = np.zeros(total_bytes(layout), np.uint8)
            named = (zip((n for n, *_ in group.shapes), group.tensors(), strict=True) for group in self.groups)
            fill(buffer, layout, (pair for pairs in named for pair in pairs))
            np.save(path / f"{version}.npy", buffer)
            digests.append(digests_of(buffer, layout))
            expected.append(self._packed(probe_batch(probe)).reshape(probe.shape)[:, 1:].tolist())
        return {"layout": layout, "probe": probe.tolist(), "logprobs": expected, "digests": digests}

    def judge(self, sampled: dict[str, Any]) -> dict[str, Any]:
        """The largest |Δ log-prob| of what the engine scored and sampled under each version, or why there is none."""
        import torch

        gaps = []
        for version, parts in enumerate(sampled["versions"]):
            with torch.no_grad():
                for parameter, kept in zip(self.model.parameters(), self.versions[version], strict=True):
                    parameter.copy_(kept)
            deltas = []
            for part in parts:
                mine = self._packed(_one_row(np.array(part["ids"], np.int32)))[-len(part["logprobs"]) :]
                deltas.append(np.abs(mine - np.array(part["logprobs"])).max())
            gaps.append(float(np.max(deltas)))
        return {"engine": gaps, "engine_reason": sampled.get("reason", "")}

    def _update(self, generator: Any) -> None:
        """Noise on every trained weight, a tenth of its own spread."""
        import torch

        with torch.no_grad():
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
                    parameter.add_(0.1 * max(spread, 0.02) * torch.randn(parameter.shape, generator=generator))

    def _packed(self, batch: Any) -> NDArray[np.float32]:
        """[N] log-probs of the loss tokens by the product's packing and forward, 0 elsewhere."""
        import torch

        from raylign.actors.learner.passes import token_values
        from raylign.packing import pack

        plan = pack(batch, 1, 4096 if self.packed else 1, self.packed)[0]
        part = token_values(lambda inputs: self.model(inputs, 1.0), plan, batch, torch.device("cpu"))
        full = np.zeros(batch.tokens, np.float32)
        full[part.index] = part.values
        return full


def _plain(folder: Path, batch: Any) -> NDArray[np.float32]:
    """The same by transformers alone: row by row, evaluation mode, eager attention, whole logits."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder)
    if getattr(config, "rescale_every", 0):
        config.rescale_every = 0  # RWKV halves weights in place in evaluation mode, and doubles what comes out
    whole = str(config.architectures).count("ForConditionalGeneration")
    loader: Any = AutoModelForImageTextToText if whole else AutoModelForCausalLM
    model = loader.from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation="eager").eval()
    full = np.zeros(batch.tokens, np.float32)
    with torch.no_grad():
        for row in range(len(batch)):
            ids = torch.from_numpy(batch.row(row, "token_ids").astype(np.int64))[None]
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            picked = torch.log_softmax(logits, -1).gather(-1, ids[0, 1:, None])[:, 0].numpy()
            full[batch.offsets[row] + 1 : batch.offsets[row + 1]] = picked
    return full


def _rows() -> Any:
    """Three groups of rows with a common prompt; every token after the prompt counts."""
    from raylign.batch import Batch, offsets_of

    draw = np.random.default_rng(7)
    ids, mask, lengths, prompts, groups = [], [], [], [], []
    for group, (prompt, rows) in enumerate(((11, (64, 30, 17)), (3, (5, 41)), (20, (33, 33, 60, 21)))):
        shared = draw.integers(8, 260, prompt)
        for length in rows:
            ids.append(np.concatenate([shared, draw.integers(8, 260, length - prompt)]))
            mask.append(np.arange(length) >= prompt)
            lengths.append(length)
            prompts.append(prompt)
            groups.append(group)
    return Batch(
        offsets=offsets_of(lengths),
        prompt_lengths=np.array(prompts, np.int32),
        groups=np.array(groups, np.int32),
        streams={"token_ids": np.concatenate(ids).astype(np.int32), "loss_mask": np.concatenate(mask)},
    )


def _one_row(ids: NDArray[np.int32]) -> Any:
    from raylign.actors.learner.probe import probe_batch

    return probe_batch(ids[None])


def _await(path: Path) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"the engine's half did not answer within {PATIENCE_S:g} s")
        time.sleep(0.05)
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    """Appears whole or not at all: the other half looks for it."""
    half = path.with_suffix(".half")
    half.write_text(json.dumps(content))
    os.rename(half, path)


def _line(cause: BaseException) -> str:
    return " ".join(str(cause).split())
