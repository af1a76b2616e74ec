"""A reward model, trained here or by others, as a reward.

    messages + response --the reward model's own chat template--> ids --backbone, scalar head--> one number

Policy and reward model may differ in tokenizer and template: the conversation is rendered anew, from its messages and
the text that was sampled. A response that ran into a limit is read as if it ended there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raylign.actors.reward.conversation import Spelled, rendering
from raylign.batch import Batch
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import LearnerConfig, ModelConfig
from raylign.contracts import REWARD_MODEL, RewardFunction, ScoredItem, artifact, finite
from raylign.data.scored import scored_row, scores_of
from raylign.errors import DataError, Problem, RequestError
from raylign.models.facts import model_facts, model_folder
from raylign.models.folder_check import folder_fault, folder_lacks
from raylign.models.scoring import SCORING, Reads, stored_dtype
from raylign.records import Prompt, Row, Trajectory, Value

LARGE = 5e8  # parameters that nobody waits for on a CPU beside a learner on GPUs
COMPUTED = ("float32", "bfloat16")  # what is stored otherwise, in float16 above all, is computed in float32


class RewardModel(RewardFunction):
    """The score of a conversation by a ``*ForSequenceClassification`` folder of one label, unbounded and as it is.

    It runs on the GPU of its actor where there is one (`rewards.NAME.gpus`), in fp32 on a CPU. What cannot be rendered
    or is longer than the model reads is missing, with the reason; nothing is cut.

    Example::

        rewards:
          taste:
            fn: {_target_: raylign.actors.reward.reward_model.RewardModel, model: '@rm'}
            gpus: 0.2
    """

    batched = True

    @dataclass
    class Config:
        """Which model, and how it reads."""

        model: str = artifact(REWARD_MODEL)  # @STAGE of a `TrainRewardModel`, a folder or a Hugging Face id
        reads: Reads | None = None  # the state that is scored; null: as the folder says, or where there is no doubt
        template_args: dict[str, Any] = field(default_factory=dict)  # of its chat template; empty: as the folder says
        max_tokens: int = 0  # of a conversation; 0: as many as the model has positions
        dtype: str = ""  # float32 | bfloat16 on a GPU; empty: as it is stored
        batch_tokens: int = 16384  # computed at a time
        trust_remote_code: bool = False

        def __post_init__(self) -> None:
            if self.dtype not in ("", *COMPUTED):
                raise ValueError(f"dtype={self.dtype} must be float32 or bfloat16, or empty for as it is stored")
            if self.batch_tokens < 1:
                raise ValueError(f"batch_tokens={self.batch_tokens} must be at least 1")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        import torch

        from raylign.actors.learner.frozen import FrozenForward
        from raylign.actors.learner.spec import LearnerSpec

        folder, gpu = model_folder(config.model), torch.cuda.is_available()
        self._limit = _limit(config)
        self._rendering = rendering(config.model, config.reads, config.template_args, config.trust_remote_code)
        dtype = (config.dtype or stored_dtype(folder)) if gpu else "float32"
        spec = LearnerSpec(
            model_path=str(folder) if Path(config.model).expanduser().is_dir() else config.model,
            learner=LearnerConfig(micro_batch_tokens=config.batch_tokens, gpus=float(gpu)),
            total_steps=1,
            kind="reward_model",
            dtype=dtype if dtype in COMPUTED else "float32",
            trust_remote_code=config.trust_remote_code,
        )
        self._forward = FrozenForward(spec, torch.device("cuda", 0) if gpu else torch.device("cpu"))

    @classmethod
    def model_of(cls, config: Config) -> str:
        """The reward model."""
        return config.model

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """A folder with a scalar head and a template that is known to be read rightly, on a device that can hold it."""
        findings = Findings(key)
        fix = f"set {key}.model=@STAGE, or a folder of a *{SCORING} model with one label"
        findings.expect(bool(config.model), "model", "empty", "there is nothing to load", fix)
        allowed = run.config.model.trust_remote_code or not config.trust_remote_code
        why, way = "is not allowed by this run", "set model.trust_remote_code=true, or leave it out"
        findings.expect(allowed, "trust_remote_code", "true", why, way)
        if not config.model or not allowed:
            return findings
        if not config.model.startswith("@") and (fault := _fault(config)):
            why, way = fault
            findings.expect(False, "model", config.model, why, way or fix)
            return findings
        findings += _device_problems(key, config, run)
        return findings

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> Sequence[Value | None]:
        """One score per trajectory."""
        (result,) = self.score_batch([(prompt, trajectories)])
        if isinstance(result, Exception):
            raise result
        return result

    def score_batch(self, items: Sequence[ScoredItem]) -> list[Sequence[Value | None] | Exception]:
        """All that can be rendered in one go; rows of the same beginning compute it once."""
        results: list[Sequence[Value | None] | Exception] = []
        rows: list[Row] = []
        beginnings: dict[tuple[int, ...], int] = {}
        for prompt, trajectories in items:
            try:
                spelled = [self._spelled(prompt, trajectory) for trajectory in trajectories]
            except (RequestError, DataError) as error:
                results.append(error)
                continue
            results.append([])
            for each in spelled:
                group = beginnings.setdefault(tuple(each.prompt), len(beginnings))
                rows.append(scored_row(group, np.asarray(each.prompt), np.asarray(each.answer)))
        scores = iter(self._scores(rows) if rows else [])
        for index, (_, trajectories) in enumerate(items):
            if not isinstance(results[index], Exception):
                results[index] = [Value(score=finite(next(scores), "the score")) for _ in trajectories]
        return results

    def _spelled(self, prompt: Prompt, trajectory: Trajectory) -> Spelled:
        spelled = self._rendering.ids(prompt, trajectory)
        if self._limit and len(spelled) > self._limit:
            raise DataError(
                f"prompt {prompt.key}: the conversation has {len(spelled)} tokens, and the reward model "
                f"{self.config.model} reads {self._limit}; fix: shorter prompts or answers, or another model"
            )
        return spelled

    def _scores(self, rows: Sequence[Row]) -> list[float]:
        from raylign.actors.learner.spec import SCORE_STREAM, scatter

        batch = Batch.from_rows(rows)
        part = self._forward.streams(batch, [SCORE_STREAM])[SCORE_STREAM]
        return scores_of(batch, scatter([part], batch.tokens)).tolist()


def _limit(config: RewardModel.Config) -> int:
    """Tokens that a conversation may have; 0: nobody says."""
    positions = model_facts(ModelConfig(path=config.model), (SCORING,)).context
    return min(limit for limit in (config.max_tokens or positions, positions or config.max_tokens))


def _fault(config: RewardModel.Config) -> tuple[str, str] | None:
    """What is wrong with a folder, and what to do; an empty way out where another folder is."""
    try:
        model_facts(ModelConfig(path=config.model), (SCORING,))
        folder = model_folder(config.model)
        if fault := folder_fault(folder, trained=True) or folder_lacks(folder):
            return fault
        rendering(config.model, config.reads, config.template_args, config.trust_remote_code)
    except (OSError, ValueError, DataError) as cause:
        text, _, way = " ".join(str(cause).split()).partition("; fix: ")
        return text, way
    return None


def _device_problems(key: str, config: RewardModel.Config, run: Run) -> list[Problem]:
    """A large model on a CPU beside a learner on GPUs, which would wait for it."""
    name = key.split(".")[1]
    reward = run.config.rewards.get(name)
    if reward is None or reward.gpus or not run.config.learner.gpus:
        return []
    try:
        told = "" if config.model.startswith("@") else config.model
        parameters = model_facts(ModelConfig(path=told), (SCORING,)).parameters if told else 0
    except ValueError:
        return []
    if parameters <= LARGE:
        return []
    why = f"leaves a reward model of {parameters / 1e9:.1f} billion parameters to the CPU, and the learner waits for it"
    return [Problem(key=f"rewards.{name}.gpus", value="0", why=why, fix=f"set rewards.{name}.gpus=0.2 or more")]
