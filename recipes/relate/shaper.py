"""Rewards of different granularity -> scores of whole ads and of single tokens, against a remembered history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.contracts import artifact
from raylign.errors import CheckpointError, DataError, Problem
from raylign.objectives.shaping import WeightedSum, token_scores, unknown_reward
from raylign.recipes.relate.figures import GroupFigures
from raylign.recipes.relate.history import History
from raylign.recipes.relate.phrases import PhraseReader, Phrases, product_of, texts_of
from raylign.recipes.relate.predictor import TwoHeads
from raylign.recipes.relate.scale import Scale, frozen_statistics, ranks, scaled
from raylign.recipes.relate.structure import FORMATTED, exempt_problems, form_of
from raylign.records import Float32s, Group, Missing, Prompt, Reward, Trajectory, Value

DIVERSITY = "diversity"


class GranularCredit(WeightedSum):
    """S, and the scores by token ``diversity`` and that of `semantic`'s spans; see the card. A text that is no ad has 0
    of every reward, and on every token (`gate_tokens`).

    The history of a sample are the texts of its product that earlier calls of `score` saw, and before them those of
    its column `served`. Group metrics: those of the sum, of `GroupFigures`, ``relate/history`` (texts that are
    remembered of the product), ``relate/new_phrases`` (share of an ad's phrases that none of these has).
    """

    @dataclass
    class Config(WeightedSum.Config):
        """Names of rewards and columns, scales, and what is a repetition."""

        gate: str = "structure"  # the reward that tells ads from other texts; empty: everything is one
        gate_tokens: bool = True  # what is no ad has 0 on its tokens, too; false: they score as any other's
        semantic: str = "semantic"  # the reward that scores spans; empty: none
        conversion: str = "ctcvr"  # the reward that is scaled; empty: none
        scale: Scale = Scale.frozen
        statistics: str = artifact("statistics")  # @STAGE of a `Calibrate`
        clip: float = 3.0
        sequence: dict[str, float] = field(default_factory=dict)  # a: weights in S of scores by token, summed over it
        product: str = "product"  # column by which ads share a history; empty: each prompt has its own
        served: str = ""  # column with the ads of a product that ran before; empty: histories begin with the run
        names: str = ""  # column with a list of names that may be repeated (brand, product)
        exempt: list[str] = field(default_factory=list)  # what else may: the tags or separators of fields
        window: int = 64  # W
        least: int = 8  # texts of a history before it counts
        theta: float = 0.10
        n: int = 2  # tokens of a phrase

        def __post_init__(self) -> None:
            super().__post_init__()
            if not 1 <= self.least <= self.window or self.n < 1 or not 0 <= self.theta <= 1 or self.clip <= 0:
                raise ValueError(
                    f"window={self.window}, least={self.least}, n={self.n}, theta={self.theta:g}, clip={self.clip:g}: "
                    "need 1 <= least <= window, n from 1 up, theta in [0, 1] and a clip above 0"
                )

    config: Config

    @classmethod
    def token_scores(cls, config: Any) -> frozenset[str]:
        """Its own; spans have the name of their reward."""
        return frozenset({DIVERSITY})

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """Rewards must be there, and the statistics that scale one of them."""
        findings, rewards = Findings(key), run.config.rewards
        findings += super().problems(key, config, run)
        if DIVERSITY in rewards:
            why = f"has the name under which {key} scores the tokens of repetitions"
            findings.append(Problem(key=f"rewards.{DIVERSITY}", value="given", why=why, fix="name it otherwise"))
        for name in ("gate", "semantic", "conversion"):
            findings += unknown_reward(f"{key}.{name}", vars(config)[name], rewards)
        for name, weight in config.sequence.items():
            known = name in {DIVERSITY, config.semantic}
            fix = f"name {DIVERSITY}{f' or {config.semantic}' if config.semantic else ''}"
            findings.expect(known, f"sequence.{name}", weight, "is the name of nothing that scores tokens", fix)
        lacks = bool(config.conversion) and config.scale is Scale.frozen and not config.statistics
        fix = f"set {key}.statistics=@STAGE of a Calibrate, or {key}.scale=rank or none"
        findings.expect(not lacks, "statistics", "empty", f"are what scale=frozen scales {config.conversion} by", fix)
        if config.conversion and config.statistics:
            findings += _statistics_problems(f"{key}.statistics", config, run)
        findings += exempt_problems(key, config.exempt, config.gate, run)
        findings += _form_problems(config.gate, config.conversion, run)
        return findings

    def __init__(
        self, config: Config, weights: Mapping[str, float], max_tokens: int, tokenizer: Any = None, seed: int = 0
    ) -> None:
        super().__init__(config, weights, max_tokens, tokenizer, seed)
        self._reader, self._history = PhraseReader(tokenizer, config.n), History(config.window, config.n)
        self._saved = 0  # texts of the history that a checkpoint has

    @cached_property
    def _statistics(self) -> dict[str, tuple[float, float]]:
        """Read when first needed: a plan makes the part before the stage that leaves them has run."""
        return frozen_statistics(self.config.statistics, self.config.conversion)

    def score(self, groups: Sequence[Group]) -> list[Group]:
        """All groups against the histories as they were before; then their texts are remembered.

        Raises DataError on a prompt that lacks a column that is named, ValueError on a reward that is not finite.
        """
        for group in groups:
            self._begin(group.prompt)
        phrases = [self._phrases(group) for group in groups]
        scored = [self._credited(group, said) for group, said in zip(groups, phrases, strict=True)]
        for group, said in zip(scored, phrases, strict=True):
            texts = [of.hashes for of, score in zip(said, group.scores, strict=True) if score is not None]
            self._history.add(self._product(group.prompt), texts)
        return scored

    def _credited(self, group: Group, phrases: Sequence[Phrases]) -> Group:
        product, counted = self._product(group.prompt), self._counted(group)
        shares = self._history.shares(product, [of_text.hashes for of_text in phrases])
        told = self._history.count(product) >= self.config.least
        repeated = tuple(
            self._repetition(t, of_text, share) if told and (self._is_ad(t) or not self.config.gate_tokens) else None
            for t, of_text, share in zip(group.trajectories, phrases, shares, strict=True)
        )
        by_token = {**token_scores(counted, self.tokenizer), DIVERSITY: repeated}
        scores = [
            score if score is None else score + self._summed(by_token, index)
            for index, score in enumerate(self._scores(counted))
        ]
        metrics = {"relate/history": float(self._history.count(product))}  # told here: it grows before `metrics`
        if new := [float((share == 0).mean()) for share in shares if len(share)]:
            metrics["relate/new_phrases"] = float(np.mean(new))
        return replace(group, scores=tuple(scores), token_scores=by_token, metrics={**group.metrics, **metrics})

    def _summed(self, by_token: Mapping[str, tuple[Float32s | None, ...]], index: int) -> float:
        """What scores by token add to S."""
        total = 0.0
        for name, weight in self.config.sequence.items():
            scores = by_token[name][index] if name in by_token else None
            total += 0.0 if scores is None else weight * float(scores.sum(dtype=np.float64))
        return total

    def _repetition(self, trajectory: Trajectory, phrases: Phrases, shares: np.ndarray) -> Float32s:
        """d of every sampled token."""
        scores = np.zeros(trajectory.response_length, np.float32)
        scores[phrases.ends] = -np.maximum(0.0, shares - self.config.theta)
        return scores

    def _counted(self, group: Group) -> Group:
        """The group with its rewards as they enter S."""
        name = self.config.conversion
        rewards = [self._entering(trajectory) for trajectory in group.trajectories]
        raw = {index: value.score for index, of in enumerate(rewards) if isinstance(value := of.get(name), Value)}
        for index, number in zip(raw, self._scaled(group.prompt.domain, list(raw.values())), strict=True):
            rewards[index][name] = Value(score=number)
        trajectories = [replace(t, rewards=of) for t, of in zip(group.trajectories, rewards, strict=True)]
        return replace(group, trajectories=tuple(trajectories))

    def _entering(self, trajectory: Trajectory) -> dict[str, Reward]:
        """Of what is no ad every reward is 0. Absent is not zero: where gate or semantic reward are missing, whatever
        their weights, all are.
        """
        rewards, decisive = trajectory.rewards, (self.config.gate, self.config.semantic)
        if gone := next((rewards[name] for name in decisive if isinstance(rewards.get(name), Missing)), None):
            return dict.fromkeys(rewards, gone)
        if self._is_ad(trajectory):
            return dict(rewards)
        kept = not self.config.gate_tokens
        return {
            name: replace(of, score=0.0, spans=of.spans if kept else None) if isinstance(of, Value) else of
            for name, of in rewards.items()
        }

    def _scaled(self, domain: str, values: Sequence[float]) -> list[float]:
        if self.config.scale is Scale.frozen and values:
            mean, std = self._statistics.get(domain, self._statistics[""])
            return scaled(values, mean, std, self.config.clip)
        return ranks(values) if self.config.scale is Scale.rank else list(values)

    def _is_ad(self, trajectory: Trajectory) -> bool:
        value = trajectory.rewards.get(self.config.gate)
        if not isinstance(value, Value):
            return True  # there is no gate, or no score without it
        if FORMATTED not in value.details:
            raise ValueError(f"the shaper's gate={self.config.gate} leaves no detail {FORMATTED!r}: name a `Structure`")
        return bool(value.details[FORMATTED])

    def _phrases(self, group: Group) -> list[Phrases]:
        free = self._free(group.prompt)
        thinks = group.prompt.thinks
        return [self._reader.of_trajectory(trajectory, free, thinks) for trajectory in group.trajectories]

    def _free(self, prompt: Prompt) -> list[str]:
        return [*self.config.exempt, *texts_of(prompt, self.config.names)]

    def _begin(self, prompt: Prompt) -> None:
        """A product that is new has the ads of its row for a history."""
        product = self._product(prompt)
        if self.config.served and product not in self._history:
            free = self._free(prompt)
            served = [self._reader.of_text(text, free) for text in texts_of(prompt, self.config.served)]
            self._history.add(product, served)

    def _product(self, prompt: Prompt) -> str:
        return product_of(prompt, self.config.product)

    def _metrics(self, group: Group) -> dict[str, float]:
        metrics = super()._metrics(group)
        if known := [score for score in group.scores if score is not None]:
            metrics["reward/score"] = float(np.mean(known))
        metrics["reward/unscored"] = 1.0 - len(known) / max(len(group.scores), 1)
        return metrics | GroupFigures(self.config.semantic, self.config.gate, DIVERSITY).of(group)

    def state_dict(self) -> dict[str, Any]:
        """The size of the history, which lies in files."""
        return self._history.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises CheckpointError on the state of another shaper, or of other settings."""
        if "texts" not in state:
            fix = "fix: resume with the shaper that it was made with"
            raise CheckpointError(f"the checkpoint has no history of ads; {fix}")
        self._history.check(state)
        self._saved = int(state["texts"])

    def save(self, folder: Path) -> None:
        """See `StatefulPart`."""
        self._history.save(folder)

    def restore(self, folder: Path) -> None:
        """See `StatefulPart`."""
        self._history.restore(folder, self._saved)


def _statistics_problems(key: str, config: GranularCredit.Config, run: Run) -> list[Problem]:
    """They must be of the reward that is scaled; a file is read, of a stage it is known what it measures."""
    findings, named, reward = Findings(), config.statistics, config.conversion
    if named.startswith("@"):
        stage = named[1:].partition("/")[0]
        if f"stages.{stage}" in run.parts:  # that there is no such stage is told by whoever resolves references
            measured, fix = run.weights(stage), f"set stages.{stage}.weights.{reward}=1"
            why = f"measures {', '.join(measured) or 'nothing'}, not {reward}"
            findings.expect(reward in measured, key, named, why, fix)
        return findings
    try:
        frozen_statistics(named, reward)
    except DataError as cause:
        findings.expect(False, key, named, f"is of no use: {cause}", f"set {key}=@STAGE of a Calibrate")
    return findings


def _form_problems(gate: str, conversion: str, run: Run) -> list[Problem]:
    """The model of clicks must read the ads that the gate lets through."""
    findings, form = Findings(), form_of(gate, run)
    key = f"rewards.{conversion}.fn.estimator"
    if form is None or (part := run.parts.get(key)) is None or not issubclass(part.cls, TwoHeads):
        return findings
    for name, wanted, said in (
        ("separator", form.separator, part.config.separator),
        ("fields", list(form.names), list(part.config.fields)),
    ):
        why = f"is not what rewards.{gate}.fn has, {wanted!r}: the model would read no ad"
        fix = f"set {name} of both alike, with {name} of the stage that fits the model"
        findings.expect(said == wanted, f"{key}.{name}", said, why, fix)
    return findings
