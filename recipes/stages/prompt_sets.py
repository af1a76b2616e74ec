"""The prompts of every stage: its own rows or the run's, in the stage's view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from raylign.actors.reward.router import Verifier
from raylign.actors.watching import Starting, unseen
from raylign.chat.template import ChatTemplate
from raylign.config.references import references
from raylign.config.resolve import ResolvedStage, Run
from raylign.config.schema import DataConfig
from raylign.contracts import View
from raylign.data.prompts import PromptSet, load_prompts
from raylign.errors import DataError
from raylign.models.facts import model_facts
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
                made: View = view.build(tokenizer=self._template, seed=run.config.seed)
                prompts = _seen(prompts, made, stage, run)
                if left_out := made.left_out():
                    self._report(f"{view.key}: {left_out}")
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
            self._report(f"{report}\n{prompts.report.judged_by}" if judged(run) else report)
            self._read[place] = prompts
        return self._read[place]

    def _report(self, said: str) -> None:
        self.reports.append(said)
        if self._told:
            self._told(said)


def _seen(prompts: PromptSet, view: View, stage: ResolvedStage, run: Run) -> PromptSet:
    """Both splits in the view; a stage that asks no held-out prompts has none, and its view need not take them. Where
    no training prompts are asked they stay as they are, for rewards to prove themselves on.
    """
    key, asked = f"{stage.key}.view", stage.cls.asks(stage.config)
    prompts = prompts if asked is None or asked.held_out else replace(prompts, holdout=())
    shown = prompts if asked is None or asked.trained else replace(prompts, train=())
    questions = [view.questions(split) for split in (shown.train, shown.holdout) if split]
    for lengths in questions:
        _refuse_short_context(lengths, stage, run)
    train, holdout = (tuple(view.prompts(split)) if split else () for split in (shown.train, shown.holdout))
    if shown.train and not train:
        raise DataError(f"{key} leaves none of {len(prompts.train)} prompts")
    if not any(longest for _, longest in questions):  # the prompts themselves are asked
        _refuse_long_prompts((*train, *holdout), stage, run)
    return replace(prompts, train=train if shown is prompts else prompts.train, holdout=holdout)


def _refuse_long_prompts(prompts: Sequence[Prompt], stage: ResolvedStage, run: Run) -> None:
    """Raises DataError where a view makes prompts so long that whole replies would not fit behind them."""
    asked, context = stage.cls.asks(stage.config), run.config.model.max_context
    if asked is not None and "rollout" not in stage.roles:
        return  # another model is asked, whose context is its own
    longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
    needed = longest + ((asked.max_tokens if asked else 0) or run.config.rollout.sampling.max_tokens)
    if needed > context:
        raise DataError(
            f"{stage.key}.view makes prompts of up to {longest} tokens, so that model.max_context={context} has no "
            f"room for an answer; fix: set model.max_context={needed}, or lower data.max_prompt_tokens"
        )


def _refuse_short_context(questions: tuple[int, int], stage: ResolvedStage, run: Run) -> None:
    """questions: tokens of the shortest and the longest. Raises DataError where no engine has room for any reply."""
    model, asked = run.config.model, stage.cls.asks(stage.config)
    own = asked.max_tokens if asked else 0
    reply, where = own or run.config.rollout.sampling.max_tokens, f"{stage.key if own else 'rollout'}.sampling"
    enough = questions[1] + reply
    if "rollout" in stage.roles and questions[0] and questions[0] + reply > model.max_context:
        positions = model_facts(model).context
        larger = f"a model.path that has them (this one: {positions})" if model.path else f"model.tiny.context={enough}"
        raise DataError(
            f"model.max_context = {model.max_context}: the questions of {stage.key} take {questions[0]} to "
            f"{questions[1]} tokens, and a reply up to {reply} ({where}.max_tokens); fix: model.max_context={enough}"
            f"{f' and {larger}' if 0 < positions < enough else ''}"
        )


def judged(run: Run, stage: str = "") -> bool:
    """Whether a reward that a stage asks, without a stage any, or a grader leaves its verdict to the verifier of the
    data.
    """
    audited = any(not stage or each.name == stage for each in run.audited)
    places = (*(f"rewards.{name}." for name in run.weights(stage)), *(["audit.graders."] if audited else []))
    return any(issubclass(part.cls, Verifier) and part.key.startswith(places) for part in run.parts.values())


def data_of(data: DataConfig, path: str, folder: Path) -> DataConfig:
    """Settings that read a stage's own file: as the run reads its own, or where a stage of this run wrote it, in the
    format of stages. None of its rows are held out.
    """
    own = replace(data, path=path, eval_path="", task="", generator={}, size=0, holdout=0)
    if not Path(path).absolute().is_relative_to(folder.absolute()):
        return own
    return replace(own, format="auto", prompt_key="", answer_key="", domain_key="", verifier="", system="", template="")
