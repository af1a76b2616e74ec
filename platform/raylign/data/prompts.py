"""The prompts of a run: where their rows come from, what is held out, and the report of what was dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from raylign.config.build import build
from raylign.config.schema import DataConfig
from raylign.contracts import RowGenerator
from raylign.data.holdout import held_out, too_long
from raylign.data.procedural import procedural_rows
from raylign.data.prompt_identity import canonical, question_id
from raylign.data.questions import question_of, said_instead
from raylign.data.readers import load_rows
from raylign.data.rendered import DOUBT, VERIFIER, render
from raylign.data.rows import DataRow
from raylign.errors import DataError
from raylign.records import Prompt, content_id

UNJUDGED = (
    "no gold answer to judge by; fix: name its column with data.answer_key, or set a reward of your own "
    "(rewards.correct.fn=...)"
)


class Split(Enum):
    """Training or held-out prompts."""

    holdout = "holdout"
    train = "train"  # to be asked how well fixed instances were learned, not how far that carries


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Counts of rows kept and dropped, printed at the start of a run.

    Example: ``LoadReport(source="a.jsonl (gsm8k)", rows=10, duplicates=1, too_long=2, train=5, holdout=2)``
    """

    source: str
    rows: int  # read or generated
    duplicates: int  # the same prompt and target as an earlier row; dropped
    too_long: int  # rendered to more than data.max_prompt_tokens; dropped
    leaked: int = 0  # training prompts that ask what a held-out one asks; dropped
    train: int = 0
    holdout: int = 0
    longest: int = 0  # tokens of the longest prompt kept
    whole: int = 0  # tokens of the longest prompt of all
    verifiers: dict[str, int] = field(default_factory=dict)
    implied: bool = False  # the verifiers follow from the data, nobody named one
    complete: int = 0  # rows around which no template and no system message of the run goes

    def __str__(self) -> str:
        whole = f", {self.complete} complete (a stage wrote them: no template goes around)" if self.complete else ""
        counts = (
            f"{self.source}: {self.rows} rows{whole}, dropped {self.duplicates} duplicate, {self.too_long} too long, "
            f"{self.leaked} also in eval; {self.train} train, {self.holdout} held out, "
            f"longest prompt {self.longest} tokens"
        )
        if 2 * self.too_long <= self.rows:
            return counts
        return (
            f"{counts}\nwarning: {self.too_long} of {self.rows} rows are left out as too long; the longest prompt has "
            f"{self.whole} tokens: raise data.max_prompt_tokens, and model.max_context with it"
        )

    @property
    def judged_by(self) -> str:
        """Which verifier judges how many prompts, and why it does: a line of a run whose rewards ask for one."""
        checks = ", ".join(f"{name or 'none'} {count}" for name, count in sorted(self.verifiers.items()))
        why = " (as the answers or the data set's name imply; data.verifier names another)" if self.implied else ""
        return f"verifier: {checks}{why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """Prompts to train on and prompts held out; no question is in both."""

    train: tuple[Prompt, ...]
    holdout: tuple[Prompt, ...]
    report: LoadReport

    def first(self, split: Split, count: int) -> tuple[Prompt, ...]:
        """The first `count` prompts of a split, 0: all."""
        return (self.train if split is Split.train else self.holdout)[: count or None]


def load_prompts(config: DataConfig, tokenizer: Any, seed: int, held: Sequence[Prompt] | None = None) -> PromptSet:
    """All prompts of a run, rendered once.

    Rows of which a part of the run reads the same (see `prompt_identity`) have the same id and are one prompt, with the
    targets of all. The held-out prompts are those with the smallest hashes of messages, answer and tools, so every seed
    of a run on a file is measured on the same ones, whatever columns stand beside; procedural rows depend on `seed`. A
    question that is held out is not trained on in any other form (`question_id`). `data.size` keeps the first rows of a
    file, or is the number of rows to generate, held-out ones included.

    tokenizer: a Hugging Face tokenizer with a chat template, or a `ChatTemplate` with arguments of its own.
    held: prompts that are held out in place of any that `config` would hold out.
    Raises DataError on anything that is wrong with the data.
    """
    source, rows, template = _rows(config, config.path, seed)
    rendered = render(rows, template, config, tokenizer)
    prompts = rendered.prompts
    if not prompts:
        raise too_long(source, f"{rendered.rows} rows", rendered.shortest, config)
    elsewhere = held is not None or bool(config.eval_path)
    if elsewhere:
        held = _evaluated(config, tokenizer, seed) if held is None else held
    else:
        held = sorted(prompts, key=_order)[: held_out(config, len(prompts), source, "prompts")]
    train = _without(prompts, held)
    leaked = len(prompts) - len(train) - (0 if elsewhere else len(held))
    if not train:
        raise DataError(_nothing_left(source, len(prompts), leaked, config))
    report = LoadReport(
        source=source,
        rows=rendered.rows,
        duplicates=rendered.duplicates,
        too_long=rendered.too_long,
        leaked=leaked,
        train=len(train),
        holdout=len(held),
        longest=max(len(prompt.token_ids) for prompt in (*train, *held)),
        whole=rendered.longest,
        verifiers=dict(Counter(str(prompt.meta[VERIFIER]) for prompt in train)),
        implied=bool(config.path and not config.verifier),
        complete=rendered.complete,
    )
    return PromptSet(train=tuple(train), holdout=tuple(held), report=report)


def _evaluated(config: DataConfig, tokenizer: Any, seed: int) -> list[Prompt]:
    """The prompts of data.eval_path."""
    _, rows, template = _rows(config, config.eval_path, seed)
    return render(rows, template, config, tokenizer).prompts


def refuse_doubts(prompts: PromptSet) -> None:
    """Raises DataError where a prompt that a verifier is to judge says how no verifier could, or names none."""
    every = (*prompts.train, *prompts.holdout)
    doubts = [prompt.meta[DOUBT] for prompt in every if DOUBT in prompt.meta]
    doubts = doubts or [f"{prompt.place}: {UNJUDGED}" for prompt in every if not prompt.meta[VERIFIER]]
    if doubts:
        more = f" ({len(doubts)} such prompts)" if len(doubts) > 1 else ""
        raise DataError(f"{doubts[0]}{more}")


def _rows(config: DataConfig, path: str, seed: int) -> tuple[str, Iterable[DataRow], str]:
    """Where the rows come from, the rows, and the template that fits them."""
    if config.generator and not path:
        if config.size <= 0 or config.task:
            raise DataError("data.generator needs data.size, the number of rows to make, and no data.task beside it")
        generator: RowGenerator = build(RowGenerator, config.generator, "data.generator")
        made, source = list(generator.rows(config.size, seed)), str(config.generator["_target_"])
        left_out = generator.left_out()
        return f"{source} ({left_out})" if left_out else source, made, config.template
    if config.task and not path:
        rows = procedural_rows(config.task, config.task_args, config.size, seed)
        return f"reasoning-gym {config.task}", rows, config.task_template
    if not path:
        raise DataError("no data: set data.path to a file, data.task to a reasoning-gym data set, or data.generator")
    keys = (config.prompt_key, config.answer_key, config.domain_key)
    kind, rows = load_rows(path, config.format, *keys, verifier=config.verifier)
    every = list(rows)
    if config.size and path == config.path and len(every) > config.size:
        kept = f"the first data.size={config.size} of {len(every)} rows"
        return f"{path} ({kind.value}, {kept})", every[: config.size], config.template
    return f"{path} ({kind.value})", every, config.template


def _order(prompt: Prompt) -> tuple[str, str]:
    """What decides whether a prompt is held out: the task, then the columns beside it."""
    tools = (canonical(prompt.tools, prompt.place),) if prompt.tools else ()
    task = content_id(canonical(prompt.messages, prompt.place), canonical(prompt.answer, prompt.place), *tools)
    return task, prompt.id


def _without(prompts: Sequence[Prompt], others: Sequence[Prompt]) -> list[Prompt]:
    """The prompts that ask nothing that one of the others asks, as it is read or as it was before the template."""
    read = {_read(prompt) for prompt in others}
    asked = read | {_bare(prompt) for prompt in others}
    return [prompt for prompt in prompts if _read(prompt) not in asked and _bare(prompt) not in read]


def _read(prompt: Prompt) -> str:
    return question_id(prompt.messages, prompt.meta, prompt.place)


def _bare(prompt: Prompt) -> str:
    """The question without the template: two of them are not compared, as a template may hold all that differs."""
    if not isinstance(prompt.meta.get("question"), str):
        return _read(prompt)
    return question_id(said_instead(prompt, question_of(prompt)), prompt.meta, prompt.place)


def _nothing_left(source: str, prompts: int, leaked: int, config: DataConfig) -> str:
    set_to = "null" if config.holdout is None else config.holdout
    held = f"data.eval_path={config.eval_path}" if config.eval_path else f"data.holdout={set_to}"
    fix = (
        "take other rows"
        if config.eval_path
        else "set data.holdout=0, or data.eval_path to rows that ask another thing"
    )
    return f"{source}: {prompts} prompts and {held} leave none to train on, {leaked} ask what is held out; fix: {fix}"
