"""Every setting of a run, once. Defaults are the vetted values for a GPU; `conf/scale/tiny.yaml` shrinks them.

Nodes typed ``dict[str, Any]`` with a ``_target_`` are parts (see `raylign.contracts`); their fields are declared by the
part's own ``Config`` and checked just as strictly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raylign.config.alarms import AlarmConfig, default_alarms
from raylign.config.schema.audit import AuditConfig, ExploitConfig
from raylign.config.schema.base import CONTRACT, Node, Section, named_nodes, node, nodes
from raylign.config.schema.data import DataConfig, SamplingConfig
from raylign.config.schema.judges import JudgeConfig, Pooling, Verb
from raylign.config.schema.lora import AdapterSync, LoraConfig, undropped
from raylign.config.schema.roles import (
    CriticConfig,
    DefaultGpus,
    EngineConfig,
    EngineKind,
    EnvironmentConfig,
    FrozenModelConfig,
    LearnerConfig,
    Offload,
    OptimConfig,
    Past,
    PoolConfig,
    RewardConfig,
    RolloutConfig,
    Schedule,
)
from raylign.config.schema.run import (
    ClusterConfig,
    ModelConfig,
    Resume,
    RunConfig,
    SweepConfig,
    TelemetryConfig,
    TinyModel,
)
from raylign.config.schema.sampled import SampledSettings
from raylign.contracts import Advantage, GroupSelector, Objective, PromptSource, RewardShaper, RowMaker, Stage

__all__ = [
    "CONTRACT",
    "AdapterSync",
    "AuditConfig",
    "ClusterConfig",
    "Config",
    "CriticConfig",
    "DataConfig",
    "DefaultGpus",
    "EngineConfig",
    "EngineKind",
    "EnvironmentConfig",
    "ExploitConfig",
    "FrozenModelConfig",
    "JudgeConfig",
    "LearnerConfig",
    "LoraConfig",
    "ModelConfig",
    "Node",
    "Offload",
    "OptimConfig",
    "Past",
    "PoolConfig",
    "Pooling",
    "Resume",
    "RewardConfig",
    "RolloutConfig",
    "RunConfig",
    "SampledSettings",
    "SamplingConfig",
    "Schedule",
    "Section",
    "SweepConfig",
    "TelemetryConfig",
    "TinyModel",
    "Verb",
    "named_nodes",
    "node",
    "nodes",
    "undropped",
]


@dataclass
class Config:
    """The whole run."""

    recipe: str = "???"
    scale: str = "???"
    seed: int = 1
    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    source: Node = node(PromptSource, "raylign.data.source.DatasetSource")
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    rewards: dict[str, RewardConfig] = field(default_factory=dict)
    audit: AuditConfig = field(default_factory=AuditConfig)
    shaper: Node = node(RewardShaper, "raylign.objectives.shaping.WeightedSum")
    selector: Node = node(GroupSelector, "raylign.objectives.selection.KeepAll")
    rows: Node = node(RowMaker, "raylign.loop.rows.PerTrajectory")
    advantage: Node = node(Advantage, "raylign.objectives.advantage.group.GRPO")
    objective: Node = node(Objective, "raylign.objectives.loss.policy.ClippedLoss")
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    default_gpus: DefaultGpus = field(default_factory=DefaultGpus)
    frozen: dict[str, FrozenModelConfig] = field(default_factory=lambda: {"reference": FrozenModelConfig()})
    judges: dict[str, JudgeConfig] = field(default_factory=dict)
    stages: dict[str, Any] = node(Stage)  # name -> stage node, run in order
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    alarms: dict[str, AlarmConfig] = field(default_factory=default_alarms)
