"""The actors of a run: engines, environments, rewards, learners, frozen and served models."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from raylign.config.findings import Findings
from raylign.config.schema.base import Node, Section, node
from raylign.config.schema.data import SamplingConfig
from raylign.contracts import MODEL, FrozenModelContext, Objective, RewardFunction, RolloutStrategy, artifact
from raylign.environment import Environment
from raylign.errors import Problem

MOST_SEQUENCES, MOST_THREADS, MOST_TRIES = 65_536, 1_024, 1_000


class EngineKind(Enum):
    """Which vLLM front end a rollout actor runs."""

    auto = "auto"  # in_process for one rank without a GPU, async_llm otherwise
    in_process = "in_process"
    async_llm = "async_llm"


class Past(Enum):
    """What a later turn reads where the chat template would render the past otherwise than it stands in the ids."""

    keep = "keep"  # the ids as they were sampled; the difference is counted (episode/chat_mismatch)
    fresh = "fresh"  # a context of its own, as the template renders it; the learner computes it as a row of its own


class Offload(Enum):
    """Where DeepSpeed keeps optimizer state."""

    none = "none"
    cpu = "cpu"


class Schedule(Enum):
    """Learning-rate schedule after the warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


@dataclass
class EngineConfig(Section):
    """vLLM engines, one per worker: what rollouts and judges have in common."""

    workers: int = 1
    engine: EngineKind = EngineKind.auto
    tensor_parallel: int = 1
    gpus: float = 1.0
    cpus: float = 1.0
    threads: int = 1  # OpenMP threads of one engine on CPU
    max_sequences: int = 256  # concurrent sequences in one engine
    kv_cache_gb: float = 1.0  # CPU only
    gpu_memory: float = 0.85  # share of one GPU
    max_restarts: int = 3  # of one worker, in a run

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        findings.positive(
            workers=self.workers,
            tensor_parallel=self.tensor_parallel,
            threads=self.threads,
            max_sequences=self.max_sequences,
            cpus=self.cpus,
            kv_cache_gb=self.kv_cache_gb,
        )
        findings.not_negative(max_restarts=self.max_restarts)
        findings.at_most("max_restarts", self.max_restarts, MOST_TRIES, "would start what is broken for ever")
        why = "is more sequences than an engine holds a table for"
        findings.at_most("max_sequences", self.max_sequences, MOST_SEQUENCES, why)
        findings.at_most("threads", self.threads, MOST_THREADS, "is more threads than a machine runs")
        findings.share(gpu_memory=self.gpu_memory)
        findings.whole_gpus(self.gpus)
        return findings


@dataclass
class RolloutConfig(EngineConfig):
    """Rollout workers."""

    strategy: Node = node(RolloutStrategy, "raylign.actors.rollout.strategies.SingleTurn")
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    past: Past = Past.keep  # of episodes and demonstrations of several turns
    max_publish_gap: float = 0.05  # mean |log-prob difference| of the probe at an engine's first update; above: refused
    max_missing: float = 0.5  # share of failed samples in one step that ends the run

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        findings += super().problems(key)
        findings.positive(max_publish_gap=self.max_publish_gap)
        findings.share(max_missing=self.max_missing)
        findings += self.sampling.problems(f"{key}.sampling")
        return findings


@dataclass
class EnvironmentConfig(Section):
    """The environment of multi-turn rollouts, and who hosts its episodes."""

    fn: Node = node(Environment)  # empty: the run has none
    workers: int = 0  # actors that host episodes; 0: the rollout workers do (cheap environments)
    cpus: float = 1.0  # of one actor
    timeout_s: float = 60.0  # of one step

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        findings.not_negative(workers=self.workers)
        findings.positive(timeout_s=self.timeout_s, cpus=self.cpus)
        return findings


@dataclass
class PoolConfig(Section):
    """A function that scores, and the pool that runs it."""

    fn: Node = node(RewardFunction)
    workers: int = 1
    cpus: float = 0.1  # of one worker; its threads, where they are 2 or more
    gpus: float = 0.0  # of one worker, for functions that compute on one
    timeout_s: float = 10.0  # per trajectory (or group); the child is killed at the deadline
    retries: int = 1

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        findings.positive(workers=self.workers, cpus=self.cpus, timeout_s=self.timeout_s)
        findings.not_negative(retries=self.retries)
        findings.whole_gpus(self.gpus)
        findings.at_most("retries", self.retries, MOST_TRIES, "would try what fails for ever")
        return findings


@dataclass
class RewardConfig(PoolConfig):
    """One reward: its function, the pool that runs it, and what it counts."""

    weight: float = 1.0
    max_missing: float = 0.5  # share of missing rewards in one step that ends the run

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        findings.expect(math.isfinite(self.weight), "weight", self.weight, "is no number", "set it to 1")
        findings += super().problems(key)
        findings.share(max_missing=self.max_missing)
        return findings


@dataclass
class OptimConfig(Section):
    """AdamW and its schedule."""

    lr: float = 1e-6
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: Schedule = Schedule.constant
    warmup_steps: int = 0
    min_lr_ratio: float = 0.1  # floor of linear and cosine, as a share of lr
    max_grad_norm: float = 1.0

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        findings.positive(lr=self.lr, eps=self.eps)
        why = "moves every weight by about so much in one step, which no model survives"
        findings.at_most("lr", self.lr, 1.0, why)
        why = "takes more from a weight than there is of it"
        findings.at_most("weight_decay", self.weight_decay, 1.0, why)
        findings.not_negative(
            weight_decay=self.weight_decay, warmup_steps=self.warmup_steps, max_grad_norm=self.max_grad_norm
        )
        findings.share(min_lr_ratio=self.min_lr_ratio)
        usable = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        findings.expect(usable, "betas", self.betas, "must be two numbers in [0, 1)", f"set {key}.betas=[0.9,0.95]")
        return findings


@dataclass
class LearnerConfig(Section):
    """A group of DeepSpeed ranks."""

    ranks: int = 1
    zero_stage: int = 2  # bf16 starts at 2, which takes less than 0 and 1: these need a whole fp32 gradient
    offload: Offload = Offload.none
    gpus: float = 1.0
    cpus: float = 1.0
    threads: int = 1  # torch threads of one rank on CPU
    micro_batch_tokens: int = 16384  # computed tokens in one forward and backward
    share_prompts: bool = True  # compute a group's common prompt once per micro-batch
    logprob_chunk: int = 1024  # rows of fp32 logits held at a time
    fp32_head: bool = False  # multiply by the output layer in fp32: bf16 rounds logits of 20 by up to 0.06
    gradient_checkpointing: bool = False
    max_restarts: int = 3  # times that dead ranks are replaced within one run, from the newest checkpoint
    optim: OptimConfig = field(default_factory=OptimConfig)

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        findings.positive(
            ranks=self.ranks,
            threads=self.threads,
            micro_batch_tokens=self.micro_batch_tokens,
            logprob_chunk=self.logprob_chunk,
            cpus=self.cpus,
        )
        findings.not_negative(max_restarts=self.max_restarts)
        findings.at_most("max_restarts", self.max_restarts, MOST_TRIES, "would start what is broken for ever")
        findings.at_most("threads", self.threads, MOST_THREADS, "is more threads than a machine runs")
        findings.one_of("zero_stage", self.zero_stage, (0, 1, 2, 3))
        findings.expect(0 <= self.gpus <= 1, "gpus", self.gpus, "one rank drives one GPU", "set it between 0 and 1")
        why = "ZeRO stage 0 keeps the optimizer in one piece on the device"
        fix = f"set {key}.zero_stage=2 or {key}.offload=none"
        findings.expect(self.offload is Offload.none or self.zero_stage > 0, "offload", self.offload.name, why, fix)
        findings += self.optim.problems(f"{key}.optim")
        return findings


@dataclass
class CriticConfig(Section):
    """The value model of PPO; used when the advantage needs values."""

    path: str = artifact(MODEL)  # a folder or @STAGE; empty: starts from the policy's weights with a new scalar head
    ranks: int = 1
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-5))
    objective: Node = node(Objective, "raylign.objectives.loss.value.ValueLoss")
    warmup_steps: int = 0  # steps in which only the critic learns

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        findings.positive(ranks=self.ranks)
        findings.not_negative(warmup_steps=self.warmup_steps)
        findings += self.optim.problems(f"{key}.optim")
        return findings


@dataclass
class DefaultGpus(Section):
    """GPUs of one actor of the frozen models, for those whose own section does not say."""

    frozen: float = 1.0
    judge: float = 1.0


@dataclass
class FrozenModelConfig(Section):
    """One frozen model that fills a stream with its log-probs; runs when advantage or objective needs the stream.

    Several frozen models may fill one stream, each for the prompts of its domain (teachers routed by task).
    """

    stream: str = "ref_logprob"
    path: str = artifact(MODEL)  # Hugging Face folder or id, or @STAGE; empty: the model that the stage starts from
    domain: str = ""  # prompts of this domain only; empty: all
    own_template: bool = False  # render the prompt with this model's own chat template, response ids unchanged
    template_args: dict[str, Any] = field(default_factory=dict)  # of its own chat template
    context: Node = node(FrozenModelContext)  # what it reads in place of the prompt; empty: the prompt
    gpus: float = 1.0  # as composed: default_gpus.frozen, unless it is set
    cpus: float = 1.0

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        findings.positive(cpus=self.cpus)
        findings.whole_gpus(self.gpus)
        return findings
