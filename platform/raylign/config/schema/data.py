"""Prompts, and how the policy answers them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raylign.config.findings import Findings
from raylign.config.schema.base import Node, Section, node
from raylign.contracts import Generator
from raylign.errors import Problem


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
    holdout: int = 256
    shuffle: bool = True
    max_prompt_tokens: int = 2048  # longer prompts are dropped at load, with a count

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        found = Findings(key)
        found.expect(
            self.format != "columns" or bool(self.prompt_key),
            "prompt_key",
            "empty",
            f"{key}.format=columns needs to know the prompt's column",
            f"set {key}.prompt_key=COLUMN (and {key}.answer_key=COLUMN)",
        )
        why = "has no place for the prompt, so that all prompts would be the same"
        found.expect(not self.template or "{" in self.template, "template", self.template, why, "put {prompt} into it")
        found.not_negative(size=self.size, holdout=self.holdout)
        found.positive(max_prompt_tokens=self.max_prompt_tokens)
        why = f"leaves nothing to train on of {key}.size={self.size} rows"
        enough = not self.size or bool(self.eval_path) or self.holdout < self.size
        found.expect(enough, "holdout", self.holdout, why, f"set {key}.holdout below {self.size}")
        return found


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
        found = Findings(key)
        found.positive(max_tokens=self.max_tokens)
        found.not_negative(top_k=self.top_k, temperature=self.temperature)
        found.expect(0 < self.top_p <= 1, "top_p", self.top_p, "is no share", "choose 0 < top_p <= 1")
        return found
