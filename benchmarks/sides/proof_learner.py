"""The learner's half of `benchmarks.weight_proof`: the product's model with fp32 masters, new weights for every seed.

Runs in a process of its own; the engine must not share it, since vLLM changes transformers' classes that it wraps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sides.families import build
from benchmarks.sides.family_parts import VOCAB, Family

SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
}
EXPERTS = SHAPE | {"moe_intermediate_size": 64, "norm_topk_prob": True, "mlp_only_layers": [0]}
UNTIED, TIED = {"tie_word_embeddings": False}, {"tie_word_embeddings": True}
MODELS = {
    "untied": Family("untied", "qwen3", SHAPE | UNTIED),
    "tied": Family("tied", "qwen3", SHAPE | TIED),
    "experts": Family("experts", "qwen3_moe", EXPERTS | TIED | {"num_experts": 16, "num_experts_per_tok": 4}),
    "few_experts": Family("few_experts", "qwen3_moe", EXPERTS | UNTIED | {"num_experts": 8, "num_experts_per_tok": 2}),
}
RATES = (1e-6, 1e-4, 1e-6)  # of the steps after version 0
SPREAD, COMMON = 8.0, 10.0  # the top logit stands so far above the mean, and the mean above 0: top logits of some 20
TOP = (15.0, 25.0)  # mean top logit on the rows of the probe; weights that miss it are drawn again
ROUNDS = 6  # of finding the size, the last two on what the model samples; a tied embedding is also what goes in


def build_model(name: str, folder: Path) -> str:
    """Write the model of this name as a Hugging Face folder."""
    return str(build(MODELS[name], folder))


def publish(folder: str, dtype: str, seeds: list[int], engine: Any) -> None:
    """Send `Learner.updates` into a connection."""
    import torch

    torch.set_num_threads(1)
    for message in Learner(folder, dtype).updates(seeds):
        engine.send(message)
    engine.close()


class Learner:
    """One model whose weights are made anew for every seed."""

    def __init__(self, folder: str, dtype: str) -> None:
        from raylign.actors.learner.loading import load_model
        from raylign.actors.learner.published import published_groups
        from raylign.actors.learner.spec import LearnerSpec
        from raylign.config.schema import LearnerConfig
        from raylign.weights import layout_of, total_bytes

        spec = LearnerSpec(model_path=folder, dtype=dtype, learner=LearnerConfig(), total_steps=1)
        self.folder, self.model = folder, load_model(spec)
        self.groups = published_groups(self.model.hf)
        self.layout = layout_of(shape for group in self.groups for shape in group.shapes)
        self.bytes = total_bytes(self.layout)
        self.settled = False
        self.masters: dict[str, Any] = {}

    def updates(self, seeds: Iterable[int]) -> Iterator[tuple[int, float, float, Any]]:
        """(seed, rate, top logit, update) for version 0 and every step of every seed."""
        for seed in seeds:
            top = self.renew(seed)
            yield seed, 0.0, top, self.update(0)
            for version, rate in enumerate(RATES, 1):
                self.step(rate)
                yield seed, rate, top, self.update(version)

    def renew(self, seed: int) -> float:
        """Other weights of unit gain, sized as a trained model's logits are; a new probe. The mean top logit."""
        import torch

        from raylign.actors.learner.exactness import settle

        self.draw, top = torch.Generator().manual_seed(seed), 0.0
        while not TOP[0] <= top <= TOP[1]:
            top = self._drawn(seed)
        if not self.settled:  # as a learner is when it is loaded
            settle(self.model)
            self.settled = True
        return top

    def _drawn(self, seed: int) -> float:
        import torch

        from raylign.actors.learner.probe import steadiest

        for name, weight in self.model.hf.named_parameters():
            noise = torch.randn(weight.shape, generator=self.draw)
            self.masters[name] = 1 + 0.1 * noise if weight.dim() < 2 else noise * weight.shape[-1] ** -0.5
        self._size(seed)
        self.probe = steadiest(
            self._sampled(1000 * seed), self._row_logprobs, self.model.hf.get_input_embeddings(), seed
        )
        return float(self._logits(torch.from_numpy(self.probe.astype(np.int64)))[1].max(-1).values.mean())

    def _sampled(self, seed: int) -> Any:
        """[R, L] rows as the product samples its probe."""
        import torch

        from raylign.actors.learner.probe import first_ids, sample_rows

        first, device = first_ids(self.folder, VOCAB, seed), torch.device("cpu")
        return sample_rows(first, lambda inputs, step: self.model(inputs, sample_seed=seed + 100_000 * step), device)

    def step(self, rate: float) -> None:
        """Adam's first steps: every weight moves by the rate, in some direction."""
        import torch

        for name, master in self.masters.items():
            self.masters[name] = master + rate * torch.randn(master.shape, generator=self.draw).sign()
        self._write()

    def update(self, version: int) -> Any:
        """What a learner publishes."""
        from raylign.contracts import WeightUpdate
        from raylign.weights import digests_of, fill

        buffer = np.zeros(self.bytes, np.uint8)
        named = (zip((n for n, *_ in group.shapes), group.tensors(), strict=True) for group in self.groups)
        fill(buffer, self.layout, (pair for pairs in named for pair in pairs))
        return WeightUpdate(
            version=version,
            buffer=buffer,
            layout=self.layout,
            digests=digests_of(buffer, self.layout),
            probe_ids=self.probe,
            probe_logprobs=self._row_logprobs(self.probe),
        )

    def _row_logprobs(self, rows: Any) -> Any:
        """As the product's learner takes them."""
        import torch

        from raylign.actors.learner.head import exact_logits
        from raylign.actors.learner.passes import token_values
        from raylign.actors.learner.probe import probe_batch
        from raylign.actors.learner.spec import scatter
        from raylign.packing import pack

        batch = probe_batch(rows)
        plan = pack(batch, 1, batch.tokens, False)[0]
        with exact_logits(self.model):
            values = token_values(lambda inputs: self.model(inputs, 1.0), plan, batch, torch.device("cpu"))
        return scatter([values], batch.tokens).reshape(rows.shape)[:, 1:]

    def _size(self, seed: int) -> None:
        """Scale the last norm, and give all logits a common part, until their spread and their mean are as wanted."""
        import torch

        ids = torch.randint(6, VOCAB, (8, 17), generator=self.draw)
        head = self.masters["lm_head.weight" if "lm_head.weight" in self.masters else "model.embed_tokens.weight"]
        for number in range(ROUNDS):
            self._write()
            if number >= ROUNDS - 2:
                ids = torch.from_numpy(self._sampled(1000 * seed + number).astype(np.int64))
            hidden, logits = self._logits(ids)
            factor = SPREAD / (logits.max(-1).values - logits.mean(-1)).mean()
            middle = factor * hidden.mean((0, 1))
            self.masters["model.norm.weight"] *= factor
            head += (COMMON - factor * logits.mean()) * middle / middle.square().sum()
        self._write()

    def _logits(self, ids: Any) -> tuple[Any, Any]:
        """Hidden states [R, L, E] and logits [R, L, V], by transformers' own attention."""
        import torch

        from raylign.actors.learner.layouts import RowLayout

        before, self.model.layout = self.model.layout, RowLayout.PLAIN
        with torch.no_grad():
            hidden = self.model.hf.model(input_ids=ids, use_cache=False).last_hidden_state
            logits = self.model.hf.lm_head(hidden)
        self.model.layout = before
        return hidden.float(), logits.float()

    def _write(self) -> None:
        for name, weight in self.model.hf.named_parameters():
            weight.data.copy_(self.masters[name])
