"""Rules about who shares a device with whom, and what an engine of several ranks needs."""

from __future__ import annotations

import math

from raylign.config.schema import Config, EngineConfig, EngineKind
from raylign.errors import Problem


def device_problems(config: Config) -> list[Problem]:
    """What is wrong with the shares of GPUs and the engines of a run."""
    memory = config.cluster.gpu_memory_gb
    engines: dict[str, EngineConfig] = {"rollout": config.rollout}
    engines |= {f"judges.{name}": judge for name, judge in config.judges.items() if not judge.endpoint}
    problems = [problem for key, engine in engines.items() for problem in _engine(key, engine)]
    if not 0 <= memory < math.inf:
        fix = "set it to GiB, or to 0 to have the device asked"
        problems.append(Problem(key="cluster.gpu_memory_gb", value=f"{memory:g}", why="is no size of memory", fix=fix))
    for key, ranks in (("learner.ranks", config.learner.ranks), ("critic.ranks", config.critic.ranks)):
        if ranks > 1 and 0 < config.learner.gpus <= 0.5:
            why = f"with {key}={ranks} two ranks of one group may meet on one GPU, where NCCL does not connect them"
            problems.append(
                Problem(
                    key="learner.gpus",
                    value=f"{config.learner.gpus:g}",
                    why=why,
                    fix=f"set learner.gpus above 0.5, or {key}=1",
                )
            )
    return problems


def _engine(key: str, engine: EngineConfig) -> list[Problem]:
    """Tensor parallelism: as many whole GPUs as ranks, and a front end whose workers are processes."""
    ranks, problems = engine.tensor_parallel, []
    if ranks > 1 and engine.gpus not in (0, ranks):
        why = f"one engine with {key}.tensor_parallel={ranks} takes that many GPUs"
        problems.append(Problem(key=f"{key}.gpus", value=f"{engine.gpus:g}", why=why, fix=f"set {key}.gpus={ranks}"))
    if ranks > 1 and engine.engine is EngineKind.in_process:
        why = f"{key}.tensor_parallel={ranks} needs a process for every rank"
        problems.append(Problem(key=f"{key}.engine", value="in_process", why=why, fix=f"set {key}.engine=async_llm"))
    return problems
