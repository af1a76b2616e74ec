"""One rank's model, DeepSpeed engine and optimiser: updates, streams of a batch, and the weights they rest on.

One update: prepare the batch (the objective stamps the global normalisation), pack it (every rank makes the same plan),
forward and backward per micro-batch, one optimiser step. DeepSpeed averages gradients over ranks while components are
already parts of the global loss, so each micro-batch loss is multiplied by the number of ranks.
"""

from __future__ import annotations

import json
import math
import resource
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import ray
import torch
from torch import Tensor

from raylign.actors.learner import lora
from raylign.actors.learner.forward import forward_kind, loss_of_nothing
from raylign.actors.learner.layouts import text_backbone
from raylign.actors.learner.optimization import deepspeed_config, effective_stage, learning_rate
from raylign.actors.learner.passes import Totals, token_streams
from raylign.actors.learner.published import Group
from raylign.actors.learner.spec import LearnerSpec, RankTokens, RankUpdate
from raylign.batch import Batch
from raylign.config.build import build
from raylign.config.schema import AdapterSync
from raylign.contracts import Objective, WeightUpdate
from raylign.errors import LearnerError
from raylign.packing import MicroBatch, balance, computed_tokens
from raylign.weights import FlatWeights, Shape, digests_of


class TrainingEngine:
    """Everything that `LearnerWorker.load` builds; replaced as a whole by the next load.

    Every method is collective: all ranks call it, in the same order, with the same arguments.
    """

    def __init__(self, spec: LearnerSpec, rank: int, ranks: int, device: torch.device) -> None:
        self.spec, self.rank, self.ranks, self.device = spec, rank, ranks, device
        self.stage = effective_stage(spec.learner, spec.dtype)
        self.kind = forward_kind(spec)
        self.step = 0
        torch.manual_seed(spec.seed)
        settings = deepspeed_config(spec.learner, spec.dtype)
        partition = _partition_at_load(settings) if self.stage == 3 else None
        self.model = self.kind.load()
        del partition
        self.adapters = self._adapters()
        optim = spec.learner.optim
        beta1, beta2 = optim.betas
        optimizer = torch.optim.AdamW(
            [weight for weight in self.model.parameters() if weight.requires_grad],
            lr=optim.lr,
            betas=(beta1, beta2),
            eps=optim.eps,
            weight_decay=optim.weight_decay,
            fused=True,
        )
        self.engine = deepspeed.initialize(model=self.model, optimizer=optimizer, config=settings)[0]
        with lora.all_used(self.model) if self.adapters else nullcontext():
            self.note = self.kind.settle(self.engine, device, self._largest)
        self.parameters = sum(getattr(p, "ds_numel", p.numel()) for p in self.model.parameters())
        self._objectives: dict[str, Objective] = {}
        self.probe = np.zeros((0, 0), np.int32)  # [R, L] rows; none before the first version is published
        self._buffer = FlatWeights()
        self._published_base = False
        self._base: WeightUpdate | None = None  # what adapters are sent beside, once it was published

    def destroy(self) -> None:
        """Take DeepSpeed's hooks and buffers away, so that another engine can be built in this process."""
        self.engine.destroy()

    # ------------------------------------------------------------------------------------------------- passes

    def update(self, batch: Batch, node: Mapping[str, Any]) -> RankUpdate:
        """One optimiser step on the whole batch.

        Raises LearnerError, with nothing applied, when a loss component or the gradient norm is not finite.
        """
        started = time.perf_counter()
        objective = self._objective(node)
        batch = objective.prepare(batch)
        plan = self.kind.pack(batch, self.ranks, objective.whole_groups)
        mine, totals = plan[self.rank], Totals()
        rate = learning_rate(self.spec.learner.optim, self.step, self.spec.total_steps)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        self.engine.train()
        if self.spec.lora.dropout:
            lora.drop_out(self.model)
        for index, micro in enumerate(mine):
            self.engine.set_gradient_accumulation_boundary(index == len(mine) - 1)
            self.engine.backward(self._loss(micro, batch, objective, totals) * self.ranks)
        sums = totals.sums(self.step)
        norm = self._apply()
        self.step += 1
        seconds = time.perf_counter() - started
        common = {
            "grad_norm": norm,
            "lr": rate,
            "learner/optimizer_step": float(self.step),
            "learner/tokens": float(computed_tokens(plan)),
            "learner/rows": float(len(batch)),
            "learner/micro_batches": float(len(mine)),
            "learner/rank_balance": balance(plan),
        }
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        maxima = {name: float(value) for name, value in totals.maxima.items()}
        return RankUpdate(
            sums=sums,
            maxima={
                **maxima,
                "learner/seconds": seconds,
                "learner/peak_rss_mb": rss,
                "learner/optimizer_mb": self._moments() / 2**20,
            },
            common=common,
            tokens=totals.tokens(),
        )

    def streams(self, batch: Batch, names: Collection[str]) -> dict[str, RankTokens]:
        """Named streams at this rank's loss tokens. Raises LearnerError for one that the forward kind cannot fill."""
        if unknown := sorted(set(names) - self.kind.streams):
            able = ", ".join(sorted(self.kind.streams)) or "none"
            raise LearnerError(
                f"a {self.spec.kind_name} cannot fill the stream {', '.join(unknown)} (it fills: {able})"
            )
        self.engine.eval()
        mine = self.kind.pack(batch, self.ranks)[self.rank]
        return token_streams(
            lambda micro: self.kind.fill(names, self.engine, self.kind.inputs(micro, batch, self.device)), names, mine
        )

    def _loss(self, micro: MicroBatch, batch: Batch, objective: Objective, totals: Totals) -> Tensor:
        inputs = self.kind.inputs(micro, batch, self.device)
        outputs = self.kind.forward(self.engine, inputs, objective.needs_entropy)
        if not len(micro.token_index):
            return loss_of_nothing(outputs)
        view = self.kind.view(outputs, micro, batch, self.device)
        terms = objective.terms(view)
        totals.add(terms)
        if view.logprob is not None:
            totals.seen.append((micro.token_index, view.logprob.detach()))
        return torch.stack([component.float() for component in terms.components.values()]).sum()

    def _apply(self) -> float:
        """Clip, check and step; returns the norm before clipping."""
        if self.stage == 0:  # no ZeRO optimizer that would refuse a non-finite norm by itself
            grads = [p.grad for p in self.model.parameters() if p.grad is not None]
            norm = float(torch.nn.utils.get_total_norm(grads))
            if math.isfinite(norm):
                self.engine.step()
        else:
            self.engine.step()
            norm = float(self.engine.get_global_grad_norm()) if self.engine.was_step_applied() else math.inf
        if not math.isfinite(norm):
            raise LearnerError(f"step {self.step}: the gradient norm is not finite; the step was not applied")
        return norm

    def _moments(self) -> int:
        """Bytes of the optimizer's state on this rank."""
        states = self.engine.basic_optimizer.state.values()
        return sum(t.nbytes for state in states for t in state.values() if isinstance(t, Tensor))

    def _largest(self, number: float) -> float:
        """The largest of the ranks' numbers, so that all of them decide alike."""
        shared = torch.tensor([number], dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
        return float(shared)

    def _objective(self, node: Mapping[str, Any]) -> Objective:
        key = json.dumps(node, sort_keys=True, default=str)
        if key not in self._objectives:
            self._objectives[key] = build(Objective, node, "objective")
        return self._objectives[key]

    # ------------------------------------------------------------------------------------------------ weights

    def publish(self, version: int) -> WeightUpdate | None:
        """Rank 0: all weights as one object, with probe rows to prove their arrival. Other ranks: None.

        The rows are taken once, of the first version published.
        """
        self.engine.eval()
        if not self.probe.size:
            self.probe = self.kind.probe(self.engine, self.device)
        if not self.adapters or self.spec.lora.sync is AdapterSync.merged:
            return self._update(version, _shapes(self._groups), self._checkpoint(self._groups), self._buffer)
        if not self._published_base:
            self._published_base = True
            with lora.muted(self.model):
                groups = self.kind.weights()
                self._base = self._update(version, _shapes(groups), self._checkpoint(groups), FlatWeights())
        shapes = lora.shapes(self.adapters)
        update = self._update(version, shapes, self._adapter(), self._buffer)
        settings = lora.described(self.spec.lora, [name for name, *_ in shapes], self.spec.model_path)
        return update and replace(update, adapter=settings, on=self._base)

    def _update(
        self, version: int, shapes: Sequence[Shape], tensors: Iterator[tuple[str, Tensor]], buffer: FlatWeights
    ) -> WeightUpdate | None:
        """Rank 0: some tensors, with the probe under the weights as they are. Other ranks: None."""
        logprobs = self.kind.probe_logprobs(self.engine, self.probe, self.device)
        if self.rank != 0:
            deque(tensors, maxlen=0)  # takes part in gathering
            return None
        buffer.fill(shapes, tensors)
        return WeightUpdate(
            version=version,
            buffer=ray.put(buffer.bytes),
            layout=buffer.layout,
            digests=digests_of(buffer.bytes, buffer.layout),
            probe_ids=self.probe,
            probe_logprobs=logprobs,
        )

    def export(self, folder: str) -> None:
        """Write a folder on rank 0, gathering partitioned weights one conversion at a time."""
        weights = {name: tensor.detach().cpu().clone() for name, tensor in self._checkpoint(self._groups)}
        if self.rank == 0:
            self.kind.export(weights, folder)
        if self.adapters and not self.kind.heads():  # else they would be half of what was trained
            own = {name: tensor.cpu().clone() for name, tensor in self._adapter()}
            if self.rank == 0:
                lora.save(Path(folder) / lora.FOLDER, own, self.spec.lora, self.spec.model_path)

    @cached_property
    def _groups(self) -> list[Group]:
        return self.kind.weights()

    def _checkpoint(self, groups: Sequence[Group]) -> Iterator[tuple[str, Tensor]]:
        """Rank 0: the weights as a checkpoint has them, each valid until the next is asked for. Others: nothing.

        Collective: every rank must exhaust it.
        """
        for group in groups:
            with self._whole(group.parameters):
                if self.rank == 0:
                    yield from zip((name for name, *_ in group.shapes), group.tensors(), strict=True)

    def _adapter(self) -> Iterator[tuple[str, Tensor]]:
        """Rank 0: A and B of every layer that has them, by peft's names, as `_checkpoint` gives weights."""
        for weight, adapter in self.adapters.items():
            with self._whole([adapter.a, adapter.b]):
                if self.rank == 0:
                    yield from zip(lora.weight_names(weight), (adapter.a.detach(), adapter.b.detach()), strict=True)

    def _adapters(self) -> dict[str, lora.Adapter]:
        """Those that the spec asks for, put in; by the names of the weights that they change."""
        if not self.spec.lora.rank:
            return {}
        hf: Any = self.model.hf
        lora.inject(hf, text_backbone(hf), self.spec.lora, self.kind.heads())
        return lora.adapters(hf)

    def _whole(self, parameters: Sequence[torch.nn.Parameter]) -> Any:
        """Context in which the parameters are complete on this rank."""
        return deepspeed.zero.GatheredParameters(list(parameters)) if self.stage == 3 else nullcontext()


def _shapes(groups: Sequence[Group]) -> list[Shape]:
    return [shape for group in groups for shape in group.shapes]


def _partition_at_load(settings: Mapping[str, Any]) -> Any:
    """While the returned object lives, `from_pretrained` splits each weight over the ranks as it is read (ZeRO-3)."""
    from transformers.integrations import HfDeepSpeedConfig

    return HfDeepSpeedConfig(dict(settings))
