"""Every setting of a run, once. Defaults are the vetted values for a GPU; `conf/scale/tiny.yaml` shrinks them.

Nodes typed ``dict[str, Any]`` with a ``_target_`` are parts (see `contracts.py`); their fields are declared by the
part's own ``Config`` and checked just as strictly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from raylign.config.alarms import AlarmConfig, default_alarms

Node = dict[str, Any]


def node(target: str, **fields: Any) -> Any:
    """A dataclass field that holds a part."""
    return field(default_factory=lambda: {"_target_": target, **fields})


class Resume(Enum):
    """What to do when the run folder already holds work."""

    auto = "auto"  # continue an unfinished run; start a new numbered folder after a finished one
    never = "never"  # refuse a folder that holds anything
    must = "must"  # refuse when there is nothing to continue


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
class RunConfig:
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


@dataclass
class TinyModel:
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


@dataclass
class ModelConfig:
    """The policy's starting point."""

    path: str = ""  # Hugging Face folder or id; empty builds `tiny`
    tiny: TinyModel = field(default_factory=TinyModel)
    dtype: str = "bfloat16"  # float32 | bfloat16, for engines and learners alike
    max_context: int = 8192  # tokens of prompt and response together
    trust_remote_code: bool = False
    template_args: dict[str, Any] = field(default_factory=dict)  # of the chat template, e.g. {enable_thinking: false}


@dataclass
class DataConfig:
    """Prompts: a file (`path`), or without one a procedural task (`task`) or a part that makes rows (`generator`)."""

    path: str = ""  # .jsonl or .parquet
    eval_path: str = ""  # empty: `holdout` rows are split off
    format: str = "auto"  # one of `raylign.data.readers.Format`; auto: by the columns of the first row
    prompt_key: str = ""  # format=columns, or to override a format's own
    answer_key: str = ""
    domain_key: str = ""  # routes teachers and splits metrics, e.g. extra_info.opd_teacher; empty: the format's own
    verifier: str = ""  # empty: what the format implies
    system: str = ""  # system message put before every prompt
    template: str = ""  # e.g. "{prompt} Put the answer in a box."
    task: str = ""  # reasoning-gym data set, e.g. basic_arithmetic; used when `path` is empty
    task_args: dict[str, Any] = field(default_factory=dict)
    task_template: str = ""  # `template` of procedural rows, e.g. "{metadata[expression]}="
    generator: Node = field(
        default_factory=dict
    )  # a part with ``rows(size, seed)`` or, for pairs, ``pairs(size, seed)``
    size: int = 0  # rows to generate or keep, 0: all
    holdout: int = 256
    shuffle: bool = True
    max_prompt_tokens: int = 2048  # longer prompts are dropped at load, with a count


@dataclass
class SamplingConfig:
    """How the policy samples."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 1024
    stop: list[str] = field(default_factory=list)


@dataclass
class RolloutConfig:
    """Rollout workers."""

    workers: int = 1
    engine: EngineKind = EngineKind.auto
    strategy: Node = node("raylign.actors.rollout.strategies.SingleTurn")
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    past: Past = Past.keep  # of episodes and demonstrations of several turns
    tensor_parallel: int = 1
    gpus: float = 1.0
    cpus: float = 1.0
    threads: int = 1  # OpenMP threads of one engine on CPU
    max_sequences: int = 256  # concurrent sequences in one engine
    kv_cache_gb: float = 1.0  # CPU only
    gpu_memory: float = 0.85  # share of one GPU
    max_restarts: int = 3  # of one worker, in a run
    max_publish_gap: float = 0.05  # mean |log-prob difference| of the probe at an engine's first update; above: refused
    max_missing: float = 0.5  # share of failed draws in one step that ends the run


@dataclass
class EnvironmentConfig:
    """The world of multi-turn rollouts, and who hosts its episodes."""

    fn: Node = field(default_factory=dict)  # empty: the run has none
    workers: int = 0  # actors that host episodes; 0: the rollout workers do (cheap worlds)
    cpus: float = 1.0  # of one actor
    timeout_s: float = 60.0  # of one step


@dataclass
class RewardConfig:
    """One reward: its function and the pool that runs it."""

    fn: Node = field(default_factory=dict)
    weight: float = 1.0
    workers: int = 1
    cpus: float = 0.1
    gpus: float = 0.0
    timeout_s: float = 10.0  # per trajectory (or group); the child is killed at the deadline
    retries: int = 1
    max_missing: float = 0.5  # share of missing rewards in one step that ends the run


@dataclass
class OptimConfig:
    """AdamW and its schedule."""

    lr: float = 1e-6
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: Schedule = Schedule.constant
    warmup_steps: int = 0
    min_lr_ratio: float = 0.1  # floor of linear and cosine, as a share of lr
    max_grad_norm: float = 1.0


@dataclass
class LearnerConfig:
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


@dataclass
class CriticConfig:
    """The value model of PPO; used when the credit needs values."""

    path: str = ""  # empty: starts from the policy's weights with a new scalar head
    ranks: int = 1
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-5))
    objective: Node = node("raylign.objectives.loss.value.ValueLoss")
    warmup_steps: int = 0  # steps in which only the critic learns


@dataclass
class FrozenConfig:
    """GPUs of one actor of the frozen models, for those whose own section does not say."""

    scorer_gpus: float = 1.0
    judge_gpus: float = 1.0


@dataclass
class ScorerConfig:
    """One frozen model that fills a stream with its log-probs; runs when the credit or the objective needs the stream.

    Several scorers may fill one stream, each for the prompts of its domain (teachers routed by task).
    """

    stream: str = "ref_logprob"
    path: str = (
        ""  # Hugging Face folder or id; empty: the model that the stage starts from; @NAME: what stage NAME made
    )
    domain: str = ""  # prompts of this domain only; empty: all
    own_template: bool = False  # render the prompt with this model's own chat template, response ids unchanged
    template_args: dict[str, Any] = field(default_factory=dict)  # of its own chat template
    context: Node = field(default_factory=dict)  # what it reads in place of the prompt; empty: the prompt
    gpus: float = 1.0  # as composed: frozen.scorer_gpus, unless it is set
    cpus: float = 1.0


@dataclass
class JudgeConfig:
    """One chat model that the run serves for judges, simulated tools and simulated users (`actors/judge`).

    Parts reach it by its name: ``model: {_target_: raylign.actors.judge.served.Served, name: NAME}``. With an
    `endpoint` its workers pass requests on to a server elsewhere, and hold no model.
    """

    path: str = (
        ""  # Hugging Face folder or id, or the endpoint's model; empty: the model that the run starts from; @NAME
    )
    endpoint: str = ""  # e.g. http://host:8000/v1
    key_file: str = ""  # of the endpoint: a file with its bearer token
    workers: int = 1
    engine: EngineKind = EngineKind.auto
    dtype: str = ""  # empty: the policy's
    max_context: int = 16384
    max_sequences: int = 256
    template: dict[str, Any] = field(default_factory=dict)  # arguments of the chat template, e.g. enable_thinking
    gpus: float = 1.0  # as composed: frozen.judge_gpus, unless it is set
    cpus: float = 1.0
    threads: int = 1  # OpenMP threads of one engine on CPU
    tensor_parallel: int = 1
    kv_cache_gb: float = 1.0  # CPU only
    gpu_memory: float = 0.85  # share of one GPU
    max_restarts: int = 3  # of one worker, in a run


@dataclass
class ClusterConfig:
    """The Ray cluster that the run asks for."""

    address: str = "local"  # local starts one here; auto or host:port joins one
    num_cpus: int = 0  # local only; 0: what this machine has
    object_store_mb: int = 512  # local only
    strategy: str = "PACK"  # placement of bundles
    ready_timeout_s: float = 120.0
    dashboard: bool = False  # local only
    gpu_memory_gb: float = 0.0  # GiB of one GPU; 0: as its driver or its type says, and where nobody knows, no check
    autoscale: bool = False  # the cluster grows on demand: the plan waits for nodes instead of being refused


@dataclass
class TelemetryConfig:
    """What is recorded besides the run folder's own files."""

    wandb: bool = False
    wandb_mode: str = "offline"
    wandb_project: str = "raylign"
    tensorboard: bool = False
    ray_metrics: bool = False  # every step's numbers as gauges on Ray's metrics port, for Prometheus
    rollouts_per_step: int = 64  # trajectories kept in rollouts/step_*.jsonl, 0: all
    progress: str = "auto"  # auto | rich | plain | none


@dataclass
class SweepConfig:
    """What ``raylign train -m`` does with the points; a single run knows nothing of it."""

    dir: str = ""  # empty: multirun/<recipe>, numbered after a finished sweep
    metric: str = "after/eval/score"  # <stage>/<metric>: what points are compared by
    direction: str = "maximize"  # maximize | minimize
    sampler: Node = node("raylign.sweeps.grid.Grid")
    launcher: Node = node("raylign.sweeps.processes.Processes")


@dataclass
class Config:
    """The whole run."""

    recipe: str = "???"
    scale: str = "???"
    seed: int = 1
    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    source: Node = node("raylign.data.source.DatasetSource")
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    rewards: dict[str, RewardConfig] = field(default_factory=dict)
    shaper: Node = node("raylign.objectives.shaping.WeightedSum")
    selector: Node = node("raylign.objectives.selection.KeepAll")
    credit: Node = node("raylign.objectives.advantage.group.GRPO")
    objective: Node = node("raylign.objectives.loss.policy.ClippedLoss")
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    frozen: FrozenConfig = field(default_factory=FrozenConfig)
    scorers: dict[str, ScorerConfig] = field(default_factory=lambda: {"reference": ScorerConfig()})
    judges: dict[str, JudgeConfig] = field(default_factory=dict)
    stages: dict[str, Any] = field(default_factory=dict)  # name -> stage node, run in order
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    alarms: dict[str, AlarmConfig] = field(default_factory=default_alarms)
