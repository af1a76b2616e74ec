"""Batches, settings, and a plain PyTorch reference that the learner must reproduce."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raylign.batch import Batch
from raylign.config.schema import LearnerConfig, OptimConfig
from raylign.records import Row

VOCAB = 262
CROSS_ENTROPY = {"_target_": "raylign.objectives.loss.cross_entropy.CrossEntropy"}
POLICY = {"_target_": "raylign.objectives.loss.policy.ClippedLoss", "entropy_coef": 0.01}
VALUE = {"_target_": "raylign.objectives.loss.value.ValueLoss", "clip": None}


def make_batch(groups: int = 3, size: int = 4, longest: int = 40, seed: int = 0) -> Batch:
    """Groups of rows with a common prompt; multi-turn masks, a prompt-only group member, lengths that differ."""
    draw = np.random.default_rng(seed)
    samples = []
    for group in range(groups):
        prompt = draw.integers(6, VOCAB, int(draw.integers(3, 12)))
        for _ in range(size):
            length = int(draw.integers(2, longest))
            ids = np.concatenate([prompt, draw.integers(6, VOCAB, length)]).astype(np.int32)
            mask = np.arange(len(ids)) >= len(prompt)
            if length > 10:
                mask[len(prompt) + 4 : len(prompt) + 7] = False  # an observation between two turns
            samples.append(_sample(group, len(prompt), ids, mask, draw))
    return Batch.from_rows(samples)


def _sample(group: int, prompt: int, ids: np.ndarray, mask: np.ndarray, draw: np.random.Generator) -> Row:
    def stream() -> np.ndarray:
        return draw.normal(size=len(ids)).astype(np.float32)

    return Row(
        group=group,
        prompt_length=prompt,
        token_ids=ids,
        loss_mask=mask,
        sampler_logprob=-np.abs(stream()),
        policy_version=np.zeros(len(ids), np.int32),
        advantage=stream(),
        weight=np.ones(len(ids), np.float32),
        extras={"return": stream()},
    )


def row_logprobs(model: Any, batch: Batch, row: int, temperature: float = 1.0) -> Any:
    """[L] log-probs of the row's loss tokens by a plain Hugging Face forward (differentiable)."""
    import torch

    ids = torch.from_numpy(batch.row(row, "token_ids").astype(np.int64))[None]
    logits = model(ids).logits[0, :-1].float() / temperature
    picked = torch.log_softmax(logits, -1).gather(-1, ids[0, 1:, None])[:, 0]
    return picked[torch.from_numpy(batch.row(row, "loss_mask")[1:])]


def reference_logprobs(folder: Path, batch: Batch, temperature: float = 1.0) -> np.ndarray:
    """[N] log-probs of the loss tokens row by row, 0 elsewhere."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    full = np.zeros(batch.tokens, np.float32)
    with torch.no_grad():
        for row in range(len(batch)):
            start = batch.offsets[row]
            at = start + np.flatnonzero(batch.row(row, "loss_mask"))
            full[at] = row_logprobs(model, batch, row, temperature).numpy()
    return full


class ReferenceRun:
    """Cross-entropy with plain PyTorch, float32, row by row: the numbers that every learner setting must reproduce."""

    def __init__(self, folder: Path, batches: Sequence[Batch], optim: OptimConfig) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        beta1, beta2 = optim.betas
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=optim.lr, betas=(beta1, beta2), eps=optim.eps, weight_decay=optim.weight_decay
        )
        self.losses, self.norms = [], []
        for batch in batches:
            tokens = int(batch["loss_mask"].sum())
            loss = (
                -torch.stack([row_logprobs(self.model, batch, row).sum() for row in range(len(batch))]).sum() / tokens
            )
            loss.backward()
            self.norms.append(float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), optim.max_grad_norm)))
            self.losses.append(loss.item())
            optimizer.step()
            optimizer.zero_grad()
        self.weights = {name: tensor.detach().numpy() for name, tensor in self.model.named_parameters()}


# Adam divides by the root of the second moment: with the usual eps a gradient that is rounding noise moves a weight by
# a whole learning rate, in whichever direction the noise points. A larger eps makes the weights comparable.
OPTIM = OptimConfig(lr=1e-3, eps=1e-4, weight_decay=0.01, max_grad_norm=1.0)


def learner_config(**changes: Any) -> LearnerConfig:
    """A CPU learner with small micro-batches, so that every test accumulates over several."""
    settings: dict[str, Any] = {
        "gpus": 0.0,
        "zero_stage": 1,
        "micro_batch_tokens": 160,
        "logprob_chunk": 32,
        "optim": OPTIM,
    }
    return LearnerConfig(**{**settings, **changes})


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine; a group keeps no event loop of its own."""
    return asyncio.run(work)


def read_weights(update: Any) -> dict[str, np.ndarray]:
    """The tensors of a published update, as float32 arrays."""
    import ray

    from raylign.weights import views

    buffer = ray.get(update.buffer)
    return {name: tensor.float().numpy().copy() for name, tensor in views(buffer, update.layout)}


def published(model: Any) -> dict[str, Any]:
    """The weights of a packed model's Hugging Face part by their names in a checkpoint."""
    from raylign.actors.learner.published import published_groups

    groups = published_groups(model.hf)
    return {name: t for group in groups for (name, *_), t in zip(group.shapes, group.tensors(), strict=True)}


def logprobs_of(group: Any, batch: Batch) -> np.ndarray:
    """[N] log-probs from a running learner group."""
    return run(group.streams(batch, ["old_logprob"]))["old_logprob"]


def values_of(group: Any, batch: Batch) -> np.ndarray:
    """[N] values from a running critic's group."""
    return run(group.streams(batch, ["value"]))["value"]
