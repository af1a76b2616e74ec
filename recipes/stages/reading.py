"""What a run reads before any actor works: its model's chat template and its rows, each once, by whoever asks first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from raylign.chat.template import ChatTemplate, same_ids
from raylign.config.resolve import ResolvedStage, Run
from raylign.config.schema import Config, DataConfig
from raylign.data.pairs import PairSet, Truncation, load_pairs
from raylign.data.prompts import PromptSet
from raylign.errors import DataError
from raylign.models.start import start_folder, start_template
from raylign.recipes.stages.demonstrations import brings_target
from raylign.recipes.stages.prompt_sets import PromptSets
from raylign.records import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStage:
    """The part of a stage's context that its rows are made from."""

    cfg: Config
    template: ChatTemplate
    prompts: PromptSet

    def first(self, count: int) -> ReadStage:
        """With so many of the training prompts that bring something to imitate; with all where that is 0, or none."""
        if not count:
            return self
        some = tuple(islice(filter(brings_target, self.prompts.train), count))
        return replace(self, prompts=replace(self.prompts, train=some)) if some else self


class Reading:
    """Of one run. made: of a task or a generator only so many rows, none of them held out; 0: all. A stage's view sees
    all of them, since it may choose among them.

    Everything raises DataError on what cannot be read.
    """

    def __init__(self, run: Run, made: int = 0) -> None:
        data = run.config.data
        viewed = any(f"{stage.key}.view" in run.parts for stage in run.stages)
        if made and not data.path and not viewed:
            fewer = replace(data, size=min(data.size or made, made), holdout=0, eval_path="")
            run = replace(run, config=replace(run.config, data=fewer))
        self.run = run
        self.demonstrated: dict[str, list[Row]] = {}  # by stage, of those that imitate
        self._pairs: dict[str, PairSet] = {}  # by everything that decides about them
        self._templates: dict[str, ChatTemplate] = {}  # by the model's folder

    @cached_property
    def start(self) -> str:
        """Folder or id of the model that the run starts from; the tiny one is built when it is not there yet."""
        return start_folder(self.run.config)

    @cached_property
    def template(self) -> ChatTemplate:
        """Of that model, with the run's arguments."""
        try:
            return start_template(self.run.config, self.start)
        except (OSError, KeyError) as cause:
            why = " ".join(str(cause).split())[:200]
            raise DataError(
                f"model.path = {self.start}: its tokenizer cannot be loaded ({why}); fix: name a folder with "
                "tokenizer.json, or a Hub id that can be read here"
            ) from cause

    @cached_property
    def sets(self) -> PromptSets:
        """The prompts of all stages."""
        return PromptSets(self.template)

    def of(self, stage: ResolvedStage) -> ReadStage:
        """What the rows of a stage are made from."""
        return ReadStage(cfg=self.run.config, template=self.template, prompts=self.sets.of(self.run, stage))

    def start_of(self, stage: ResolvedStage) -> str:
        """Folder or id that a stage starts from, as far as it is there: what stages make has the run's template."""
        start: str = stage.config.start
        return start if start and not start.startswith("@") else self.start

    def template_of(self, model: str) -> ChatTemplate:
        """Of the model in a folder, with the run's arguments; the run's own where it is the same."""
        if model not in self._templates:
            read = start_template(self.run.config, model)
            self._templates[model] = self.template if same_ids(read, self.template) else read
        return self._templates[model]

    def pairs(
        self, data: DataConfig, max_tokens: int, truncation: Truncation, *, ties: bool = False, model: str = ""
    ) -> PairSet:
        """Preference pairs, cut to a stage's limits. ties: with those of which neither answer is better; model: whose
        template renders them, empty: the run's.
        """
        template = self.template_of(model) if model else self.template
        key = repr((data, max_tokens, truncation, ties, id(template)))
        if key not in self._pairs:
            seed = self.run.config.seed
            self._pairs[key] = load_pairs(data, template, max_tokens, truncation, seed, ties=ties)
        return self._pairs[key]

    @property
    def reports(self) -> list[str]:
        """What has been read so far."""
        prompts = self.sets.reports if "sets" in vars(self) else []
        return [*prompts, *dict.fromkeys(str(pairs.report) for pairs in self._pairs.values())]
