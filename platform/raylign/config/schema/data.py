"""Prompts, and how the policy answers them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raylign.config.findings import Findings
from raylign.config.schema.base import Node, Section, node
from raylign.contracts import Generator
from raylign.errors import Problem

SHORTEST_PROMPT = 4  # tokens: the marks around a message, the answer's first mark, and one letter
MOST_ROWS = 10_000_000  # that a task or a generator makes
COLDEST, HOTTEST = 0.01, 100.0  # vLLM makes 0.01 of what is colder, without a word


@dataclass
class DataConfig(Section):
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
    generator: Node = node(Generator)
    size: int = 0  # rows to generate or keep, 0: all
    holdout: int | None = None  # rows to hold out; null: a tenth of them, at most 256
    shuffle: bool = True
    max_prompt_tokens: int = 2048  # longer prompts are dropped at load, with a count

    @property
    def holds_out(self) -> bool:
        """Whether there are held-out prompts; null holds out a tenth."""
        return self.holdout != 0 or bool(self.eval_path)

    def unasked(self) -> list[Problem]:
        """What is wrong where stages ask held-out prompts; the same of each such stage, so that it is told once."""
        if self.holds_out:
            return []
        why = "stages ask held-out prompts and there are none"
        fix = "set data.holdout=128 or data.eval_path=FILE, or of them split=train, eval_split=train, eval_every=0"
        return [Problem(key="data.holdout", value="0", why=why, fix=fix)]

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        problems = Findings(key)
        problems.expect(
            self.format != "columns" or bool(self.prompt_key),
            "prompt_key",
            "empty",
            f"{key}.format=columns needs to know the prompt's column",
            f"set {key}.prompt_key=COLUMN (and {key}.answer_key=COLUMN)",
        )
        why = "has no place for the prompt, so that all prompts would be the same"
        filled = not self.template or "{" in self.template
        problems.expect(filled, "template", self.template, why, "put {prompt} into it")
        problems.not_negative(size=self.size, holdout=self.holdout or 0)
        why = f"is less than the {SHORTEST_PROMPT} tokens of a letter in a chat template: every prompt would be dropped"
        enough = self.max_prompt_tokens >= SHORTEST_PROMPT
        problems.expect(enough, "max_prompt_tokens", self.max_prompt_tokens, why, f"set {key}.max_prompt_tokens=128")
        why = "has no place for the question, so that all prompts would be the same"
        fits = not self.task_template or "{" in self.task_template
        problems.expect(fits, "task_template", self.task_template, why, "put {question} into it")
        if not self.path:
            problems.at_most("size", self.size, MOST_ROWS, "is more rows than can be made before a run")
        why = f"leaves nothing to train on of {key}.size={self.size} rows"
        enough = not self.size or bool(self.eval_path) or (self.holdout or 0) < self.size
        problems.expect(enough, "holdout", self.holdout, why, f"set {key}.holdout={self.size // 10}")
        return problems


@dataclass
class SamplingConfig(Section):
    """How the policy samples."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 1024
    stop: list[str] = field(default_factory=list)

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        problems = Findings(key)
        problems.positive(max_tokens=self.max_tokens)
        problems.not_negative(top_k=self.top_k)
        fits = self.temperature == 0 or COLDEST <= self.temperature <= HOTTEST
        why = f"is not between {COLDEST} and {HOTTEST:g}, which is what engines sample at"
        problems.expect(fits, "temperature", self.temperature, why, f"set {key}.temperature=1, or 0 for greedy")
        why = "holds an empty text, at which an answer would stop before it begins"
        problems.expect(all(self.stop), "stop", self.stop, why, "leave the empty text out")
        problems.expect(0 < self.top_p <= 1, "top_p", self.top_p, "is no share", "choose 0 < top_p <= 1")
        return problems
