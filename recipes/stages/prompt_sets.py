"""The prompts of every stage: its own rows or the run's, in the stage's view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from raylign.actors.reward.router import Verifier
from raylign.actors.watching import Starting, unseen
from raylign.chat.template import ChatTemplate
from raylign.config.references import references
from raylign.config.resolve import ResolvedPart, ResolvedStage, Run
from raylign.config.schema import DataConfig
from raylign.contracts import Asked, View
from raylign.data.prompts import PromptSet, load_prompts
from raylign.errors import DataError
from raylign.records import Prompt


class PromptSets:
    """Read when they are first asked for, each file once."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._folder = Path()  # of the run, which has none before it works
        self._told: Callable[[str], None] | None = None
        self._starting: Starting = unseen
        self.reports: list[str] = []  # what was read so far
        self._read: dict[str, PromptSet] = {}  # by path, and whether held-out rows were left out
        self._viewed: dict[str, PromptSet] = {}  # by stage

    def at_work(self, folder: Path, told: Callable[[str], None], starting: Starting) -> PromptSets:
        """These sets for a run that works in a folder. told: is told what is read, and at once what was read before."""
        self._folder, self._told, self._starting = folder, told, starting
        for report in self.reports:
            told(report)
        return self

    def of(self, run: Run, stage: ResolvedStage | None) -> PromptSet:
        """Those of a stage, without one the run's as they are. Raises DataError."""
        if stage is None:
            return self._rows(run, "")
        if stage.name not in self._viewed:
            prompts, view = self.unviewed(run, stage), run.parts.get(f"{stage.key}.view")
            if view is not None:
                if any(reference.key.startswith(f"{view.key}.") for reference in references(run)):
                    return prompts  # before the work, when what the view refers to is not there yet
                prompts = self._seen(prompts, run, stage, view)
            self._viewed[stage.name] = prompts
        return self._viewed[stage.name]

    def unviewed(self, run: Run, stage: ResolvedStage) -> PromptSet:
        """Without the view: the stage's own rows beside the run's held-out prompts, none of them where it learns."""
        data, path = run.config.data, stage.config.data
        if not path:
            return self._rows(run, "")
        held = self._rows(run, "").holdout if data.path or data.task or data.generator else ()
        own = self._rows(run, path, held if "learner" in stage.roles else ())
        return replace(own, holdout=held)

    def _rows(self, run: Run, path: str, held: Sequence[Prompt] = ()) -> PromptSet:
        place = f"{path}, none of {len(held)}" if held else path
        if place not in self._read:
            data, seed = run.config.data, run.config.seed
            with self._starting("prompts"):
                if path:
                    prompts = load_prompts(data_of(data, path, self._folder), self._template, seed, held=held)
                else:
                    prompts = load_prompts(data, self._template, seed)
            report = str(prompts.report)
            self.reports.append(f"{report}\n{prompts.report.judged_by}" if judged(run) else report)
            if self._told:
                self._told(self.reports[-1])
            self._read[place] = prompts
        return self._read[place]

    def _seen(self, prompts: PromptSet, run: Run, stage: ResolvedStage, part: ResolvedPart) -> PromptSet:
        """As the view shows them: the held-out prompts, and where the stage asks others the others too."""
        view: View = part.build(tokenizer=self._template, seed=run.config.seed)
        asked = stage.cls.asks(stage.config) or Asked(prompts=0)
        holdout = tuple(view.prompts(prompts.holdout))
        train = prompts.train if asked.held_out else tuple(view.prompts(prompts.train))
        if prompts.train and not train:
            raise DataError(f"{part.key} leaves none of {len(prompts.train)} prompts")
        longest = max((len(prompt.token_ids) for prompt in (*holdout, *train)), default=0)
        needed = longest + (asked.max_tokens or run.config.rollout.sampling.max_tokens)
        if needed > run.config.model.max_context:
            raise DataError(
                f"{part.key} makes prompts of up to {longest} tokens, so that model.max_context="
                f"{run.config.model.max_context} has no room for an answer; fix: set model.max_context={needed}, or "
                "lower data.max_prompt_tokens"
            )
        return replace(prompts, train=train, holdout=holdout)


def judged(run: Run, stage: str = "") -> bool:
    """Whether a reward that a stage asks, without a stage any, leaves its verdict to the verifier of the data."""
    places = tuple(f"rewards.{name}." for name in run.weights(stage))
    return any(issubclass(part.cls, Verifier) and part.key.startswith(places) for part in run.parts.values())


def data_of(data: DataConfig, path: str, folder: Path) -> DataConfig:
    """Settings that read a stage's own file: as the run reads its own, or where a stage of this run wrote it, in the
    format of stages. None of its rows are held out.
    """
    own = replace(data, path=path, eval_path="", task="", generator={}, size=0, holdout=0)
    if not Path(path).absolute().is_relative_to(folder.absolute()):
        return own
    return replace(own, format="auto", prompt_key="", answer_key="", domain_key="", verifier="", system="", template="")
