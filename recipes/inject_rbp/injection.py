"""The injectant before the question: a view of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from raylign.chat.template import ChatTemplate
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.contracts import View, artifact
from raylign.data.prompts import Split
from raylign.data.questions import last_user, reworded
from raylign.errors import DataError, Problem
from raylign.recipes.inject_rbp.arms import Arm, Form, Injectant, Injector
from raylign.recipes.inject_rbp.behaviours import MEANINGS, NAMES
from raylign.recipes.inject_rbp.history import asked_before
from raylign.recipes.inject_rbp.injectant import INJECTANT
from raylign.recipes.inject_rbp.table import PatternTable
from raylign.recipes.stages.evaluate import Evaluate
from raylign.recipes.stages.generate import Generate
from raylign.records import Prompt, derive_seed

ABOUT = (
    "Think in short paragraphs with a blank line between them. Every paragraph does one of six things: {behaviours}.\n"
)
PATTERNS = ABOUT + (
    "Let these sequences of three paragraphs occur, the more often the larger their share: {patterns}.\n\n"
)
CHAIN = ABOUT + "Let the paragraphs follow this order: {chain}.\n\n"


class Inject(View):
    """Puts patterns of behaviours before every question, drawn for its family by the arm of a comparison.

    A question of the history is refused, as its own answers would be in what it is given. Draws depend on the run's
    seed, the arm and the question alone; prompts keep their ids, so that all arms sample with the same seeds.
    """

    @dataclass
    class Config:
        """Which patterns, and how they are said."""

        store: str = artifact("fitted")  # the pattern table: @STAGE of its Fit, or a folder
        arm: Arm = Arm.correct
        form: Form = Form.patterns
        shown: bool = True  # false: it is only noted beside the question, for a strategy or for a measure
        top: int = 5  # K, patterns that are shown
        chains: int = 32  # M, that a policy rolls for a question
        block: str = ""  # with {behaviours}, and {patterns} or {chain}; empty: our own words
        step: str = "{number}. {name}"  # of a chain; {letter} too
        between: str = ", "  # steps of a chain
        history_questions: bool = False  # ask what the history asked, too: to lengthen it, never to evaluate

        def __post_init__(self) -> None:
            if self.top < 1 or self.chains < 1:
                name = "top" if self.top < 1 else "chains"
                raise ValueError(f"{name} is {getattr(self, name)}, set it to 1 or more")
            _filled("block", self.block, behaviours="", patterns="", chain="")
            _filled("step", self.step, number=1, name="", letter="")
            place = f"{{{self.form.name}}}"
            if self.block and place not in self.block:
                raise ValueError(f"block has no {place}, so that nothing would be injected; put it in")

    config: Config

    def __init__(self, config: Config, *, tokenizer: ChatTemplate, seed: int) -> None:
        super().__init__(config)
        self._template, self._seed = tokenizer, seed
        self._table = PatternTable.of(Path(config.store))
        self._injector = Injector(self._table, config.arm, config.form, top=config.top, chains=config.chains)

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """There must be a table, made of other questions than an evaluation asks."""
        findings = Findings(key)
        fix = f"set {key}.store=@STAGE of a Fit of raylign.recipes.inject_rbp.PatternTable, or the folder that one left"
        findings.expect(bool(config.store), "store", "empty", "there are no patterns to inject", fix)
        there = not config.store or config.store.startswith("@") or Path(config.store).is_dir()
        findings.expect(there, "store", config.store, "is no folder", fix)
        stage = run.parts[key.rpartition(".")[0]]
        source = _source_of(config.store, run) if config.store.startswith("@") else None
        if source is not None and isinstance(stage.config, Evaluate.Config):
            same = (source.data, source.split) == (stage.config.data, stage.config.split)
            why = f"was made of the very questions that {stage.key} asks, whose answers it would give away"
            other = Split.holdout if stage.config.split is Split.train else Split.train
            findings.expect(not same, "store", config.store, why, f"set {stage.key}.split={other.name}")
        return findings

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """See `View.prompts`. Raises DataError on a question of the history."""
        known = [] if self.config.history_questions else asked_before(prompts, self._table.traces)
        if known:
            first = known[0].place or known[0].id
            raise DataError(
                f"{len(known)} of {len(prompts)} questions are in the history that the patterns come from (the first: "
                f"{first}), so that their own answers would be injected; fix: other questions here (split, data), or "
                "of the history"
            )
        return [self._injected(prompt) for prompt in prompts]

    def _injected(self, prompt: Prompt) -> Prompt:
        seed = derive_seed(self._seed, INJECTANT, self.config.arm.name, prompt.id)
        injectant = self._injector.injectant(prompt.domain, seed)
        meta = {**prompt.meta, INJECTANT: {"arm": self.config.arm.name, **asdict(injectant)}}
        if not self.config.shown:
            return replace(prompt, meta=meta)
        return reworded(replace(prompt, meta=meta), self._block(injectant) + last_user(prompt), self._template)

    def _block(self, injectant: Injectant) -> str:
        shown = [self._step(number, symbol) for number, symbol in enumerate(injectant.chain, 1)]
        fields = {
            "behaviours": ", ".join(f"{NAMES[symbol]} ({meaning})" for symbol, meaning in MEANINGS.items()),
            "patterns": "; ".join(_said(gram, share) for gram, share in injectant.patterns.items()),
            "chain": self.config.between.join(shown),
        }
        own = CHAIN if self.config.form is Form.chain else PATTERNS
        return (self.config.block or own).format(**fields)

    def _step(self, number: int, symbol: str) -> str:
        return self.config.step.format(number=number, name=NAMES[symbol], letter=symbol)


def _said(gram: str, share: float) -> str:
    return f"{' - '.join(NAMES[symbol] for symbol in gram)} ({share:.0%})"


def _filled(what: str, text: str, **fields: Any) -> None:
    """Raises ValueError on a text that names other fields than these."""
    try:
        text.format(**fields)
    except (KeyError, IndexError, ValueError) as cause:
        raise ValueError(f"{what}={text!r} cannot be filled ({cause!r}); its fields: {', '.join(fields)}") from cause


def _source_of(store: str, run: Run) -> Generate.Config | None:
    """Settings of the stage whose samples a table was fitted to; None where rows of another kind were."""
    fit = run.parts.get(f"stages.{store[1:].partition('/')[0]}")
    data = str(fit.config.data) if fit else ""
    source = run.parts.get(f"stages.{data[1:].partition('/')[0]}") if data.startswith("@") else None
    return source.config if source and isinstance(source.config, Generate.Config) else None
