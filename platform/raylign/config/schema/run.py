"""The run itself: its folder, its model, its cluster, what is recorded, and sweeps."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from raylign.config.findings import Findings
from raylign.config.schema.base import Node, Section, node
from raylign.contracts import Launcher, Sampler
from raylign.errors import Problem

SHORTEST_DEADLINE_S = 10.0  # no engine and no rank starts sooner
WIDEST_START = 1.0  # standard deviation of a model's first weights
PLACEMENTS = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class Resume(Enum):
    """What to do when the run folder already holds work."""

    auto = "auto"  # continue an unfinished run; start a new numbered folder after a finished one
    never = "never"  # refuse a folder that holds anything
    must = "must"  # refuse when there is nothing to continue


@dataclass
class RunConfig(Section):
    """Identity and folder of a run."""

    dir: str = ""  # empty: outputs/<recipe>-<scale>-seed<seed>, numbered after a finished run
    resume: Resume = Resume.auto
    foreign_folder: bool = False  # continue in a folder that another user owns, whose content is then trusted
    keep_checkpoints: int = 2
    save_every: int = 10  # steps between checkpoints; 0: only at the end of a stage
    cache_dir: str = ""  # where tiny models are built, once; empty: $XDG_CACHE_HOME/raylign or ~/.cache/raylign
    allow_targets: list[str] = field(default_factory=list)  # module prefixes that `_target_` may name besides raylign.
    deadline_s: float = 1800.0  # any single call to a learner or an engine
    stall_s: float = 1800.0  # no progress for so long ends the run with every role's state

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        problems = Findings(key)
        problems.positive(keep_checkpoints=self.keep_checkpoints, deadline_s=self.deadline_s, stall_s=self.stall_s)
        problems.not_negative(save_every=self.save_every)
        for name, seconds in (("deadline_s", self.deadline_s), ("stall_s", self.stall_s)):
            why, fix = "ends every run before its engines have started", f"set {key}.{name}=1800"
            problems.expect(not 0 < seconds < SHORTEST_DEADLINE_S, name, seconds, why, fix)
        return problems


@dataclass
class TinyModel(Section):
    """Shape of the model that is built when `model.path` is empty (Qwen3 architecture, character-level tokenizer)."""

    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    intermediate_size: int = 384
    context: int = 512
    tie_embeddings: bool = True
    init_std: float = 0.02  # of all matrices; about 1/sqrt(hidden_size) learns small arithmetic several times sooner
    seed: int = 0

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        problems = Findings(key)
        numbers = {
            item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("seed", "tie_embeddings")
        }
        problems.positive(**numbers)
        if problems:
            return problems
        why = f"does not divide heads={self.heads}: each key is shared by as many queries"
        problems.expect(
            self.heads % self.kv_heads == 0, "kv_heads", self.kv_heads, why, f"set {key}.kv_heads=1 or {self.heads}"
        )
        why = "gives a model whose first logits are already beyond use"
        problems.at_most("init_std", self.init_std, WIDEST_START, why)
        why = "is odd, and rotary positions turn pairs of numbers"
        problems.expect(self.head_dim % 2 == 0, "head_dim", self.head_dim, why, f"set {key}.head_dim=32")
        return problems


@dataclass
class ModelConfig(Section):
    """The policy's starting point."""

    path: str = ""  # Hugging Face folder or id; empty builds `tiny`
    tiny: TinyModel = field(default_factory=TinyModel)
    dtype: str = "bfloat16"  # float32 | bfloat16, for engines and learners alike
    max_context: int = 8192  # tokens of prompt and response together
    trust_remote_code: bool = False
    template_args: dict[str, Any] = field(default_factory=dict)  # of the chat template, e.g. {enable_thinking: false}

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        problems = Findings(key)
        problems.one_of("dtype", self.dtype, ("float32", "bfloat16"))
        problems.positive(max_context=self.max_context)
        if not self.path:
            problems += self.tiny.problems(f"{key}.tiny")
        return problems


@dataclass
class ClusterConfig(Section):
    """The Ray cluster that the run asks for."""

    address: str = "local"  # local starts one here; auto or host:port joins one
    num_cpus: int = 0  # local only; 0: what this machine has
    object_store_mb: int = 512  # local only
    strategy: str = "PACK"  # placement of bundles
    ready_timeout_s: float = 120.0
    dashboard: bool = False  # local only
    gpu_memory_gb: float = 0.0  # GiB of one GPU; 0: as its driver or its type says, and where nobody knows, no check
    autoscale: bool = False  # the cluster grows on demand: the plan waits for nodes instead of being refused

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        problems = Findings(key)
        problems.one_of("strategy", self.strategy, PLACEMENTS)
        problems.positive(ready_timeout_s=self.ready_timeout_s)
        problems.not_negative(num_cpus=self.num_cpus)
        why = "Ray's object store needs at least 80 MB"
        problems.expect(self.object_store_mb >= 80, "object_store_mb", self.object_store_mb, why, "set 256")
        return problems


@dataclass
class TelemetryConfig(Section):
    """What is recorded besides the run folder's own files."""

    wandb: bool = False
    wandb_mode: str = "offline"
    wandb_project: str = "raylign"
    tensorboard: bool = False
    ray_metrics: bool = False  # every step's numbers as gauges on Ray's metrics port, for Prometheus
    rollouts_per_step: int = 64  # trajectories kept in rollouts/step_*.jsonl, 0: all
    progress: str = "auto"  # auto | rich | plain | none
    headline: str = ""  # metric, or <stage>/<metric>, that the report begins with; empty: that of the last stage

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        problems = Findings(key)
        problems.one_of("progress", self.progress, ("auto", "rich", "plain", "none"))
        problems.one_of("wandb_mode", self.wandb_mode, ("offline", "online"))
        problems.not_negative(rollouts_per_step=self.rollouts_per_step)
        return problems


@dataclass
class SweepConfig(Section):
    """What ``raylign train -m`` does with the points; a single run knows nothing of it."""

    dir: str = ""  # empty: multirun/<recipe>, numbered after a finished sweep
    metric: str = ""  # <stage>/<metric>: what points are compared by; empty: the headline
    direction: str = ""  # maximize | minimize; empty: losses are minimized, all else is maximized
    sampler: Node = node(Sampler, "raylign.sweeps.grid.Grid")
    launcher: Node = node(Launcher, "raylign.sweeps.processes.Processes")

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        problems = Findings(key)
        problems.one_of("direction", self.direction, ("", "maximize", "minimize"))
        return problems
