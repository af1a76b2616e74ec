"""Part D of `quark_medical`: graded answers of real data sets, and evidence that is searched for real sentences."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

from benchmarks.experiments.report import ROOT
from raylign.recipes.quark_medical.evidence import EvidenceStore, Passage

Graded: TypeAlias = dict[str, Any]  # question, answer, grade
PUBMEDQA = ROOT.parent / "shared" / "data" / "pubmedqa" / "ori_pqal_300.json"
MEDIQA = ROOT.parent / "shared" / "data" / "mediqa"
TRAIN = 200  # questions of PubMedQA; the others are held out
SENTENCE = re.compile(r"(?<=[.!?])\s+")


def papers() -> dict[str, Mapping[str, Any]]:
    """PubMedQA's expert-labelled questions, by paper."""
    if not PUBMEDQA.exists():
        raise SystemExit(f"part D needs {PUBMEDQA}; see ../shared/data/README.md")
    known: dict[str, Mapping[str, Any]] = json.loads(PUBMEDQA.read_text())
    return known


def pubmedqa() -> tuple[list[Graded], list[Graded]]:
    """Training and held-out answers. Of each question two passages of its own long answer (grade 1) and two of other
    questions' (grade 0): four pairs and two ties.

    A long answer is cut in two, at the sentence nearest to its middle, or where it has one sentence at a word. The
    others' are of the questions behind it in the file, within its part, so that no answer is in both parts.
    """
    known = list(papers().values())
    parts = known[:TRAIN], known[TRAIN:]
    return _graded(parts[0]), _graded(parts[1])


def _graded(part: Sequence[Mapping[str, Any]]) -> list[Graded]:
    halves = [_halves(str(paper["LONG_ANSWER"])) for paper in part]
    rows: list[Graded] = []
    for number, paper in enumerate(part):
        others = [halves[(number + step) % len(part)][step % 2] for step in (1, 2)]
        for answer, grade in [(half, 1.0) for half in halves[number]] + [(half, 0.0) for half in others]:
            rows.append({"question": paper["QUESTION"], "answer": answer, "grade": grade})
    return rows


def _halves(text: str) -> tuple[str, str]:
    sentences = SENTENCE.split(text.strip())
    parts = sentences if len(sentences) > 1 else text.split()
    lengths = [sum(map(len, parts[:cut])) for cut in range(1, len(parts))]
    cut = 1 + min(range(len(lengths)), key=lambda i: abs(lengths[i] - sum(map(len, parts)) / 2))
    return " ".join(parts[:cut]), " ".join(parts[cut:])


def own_evidence() -> float:
    """How often the best passage for a sentence of a long answer is of its own paper, among the contexts of all."""
    known = papers()
    passages = [
        Passage(id=f"{name}-{number}", text=context)
        for name, paper in known.items()
        for number, context in enumerate(paper["CONTEXTS"])
    ]
    store, hits = EvidenceStore(passages), list[bool]()
    for name, paper in known.items():
        for sentence in SENTENCE.split(str(paper["LONG_ANSWER"])):
            best = store.best(sentence, 1)
            hits.append(bool(best) and best[0].id.rpartition("-")[0] == name)
    return sum(hits) / len(hits)


def mediqa() -> tuple[list[Graded], list[Graded]] | None:
    """Answers of MEDIQA 2019's third task with experts' grades from 1 to 4; None where its files are not there.

    Files with "Train" in their names are learned from, those with "Test" are held out.
    """
    files = sorted(MEDIQA.glob("*.xml"))
    learned, held_out = (
        [row for path in files if kind in path.stem.lower() for row in _answers(path)] for kind in ("train", "test")
    )
    return (learned, held_out) if learned and held_out else None


def _answers(path: Path) -> list[Graded]:
    rows: list[Graded] = []
    for question in ElementTree.parse(path).getroot().iter("Question"):
        asked = question.findtext("QuestionText", "").strip()
        for answer in question.iter("Answer"):
            grade = float(answer.attrib["ReferenceScore"])
            rows.append({"question": asked, "answer": answer.findtext("AnswerText", "").strip(), "grade": grade})
    return rows
