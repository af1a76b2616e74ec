"""The audit in the run folder and on the report's page: flags, figures, and the samples that tell most."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from audited_run import audited_run
from browser import Browser, chromium
from recorded import Clock, record_run

from raylign.telemetry.recorder import read_lines
from raylign.telemetry.report import write_report
from raylign.telemetry.report.audit import audit
from raylign.telemetry.report.folder import Records
from raylign.telemetry.report.rollouts import Rollouts

needs_browser = pytest.mark.skipif(chromium() is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asyncio.run(audited_run(tmp_path_factory.mktemp("audited") / "run"))


def test_recorded_rollouts_carry_grades_and_flags(folder: Path) -> None:
    rows = [row for path in sorted((folder / "rollouts").glob("*.jsonl")) for row in read_lines(path)]
    audited = [row for row in rows if "audit/grader" in row["rewards"]]
    flagged = [row for row in audited if row["metrics"].get("audit/exploit")]
    assert len(rows) > len(audited) > 0 and len(flagged) > 20
    assert all(row["score"] == 1.0 and row["rewards"]["audit/grader"]["score"] == 0.0 for row in flagged)
    assert all(-1 <= row["metrics"]["audit/gap"] <= 1 for row in flagged)
    steps = {row["step"]: [other for other in rows if other["step"] == row["step"]] for row in rows}
    assert max(map(len, steps.values())) > 4, "exploits are kept beyond the number of rollouts that are recorded"
    assert all(row in flagged for of_step in steps.values() for row in of_step[4:])


def test_the_figures_of_the_audit(folder: Path) -> None:
    figures = audit(Records.read(folder), Rollouts(folder, 10_000, []))
    assert figures is not None and figures["asked"] == 512 and figures["share"] == 0.1
    (grader,) = figures["graders"]
    assert (grader["stage"], grader["grader"], grader["domain"], grader["held_out"]) == ("rl", "grader", "", False)
    assert grader["start"] == {"reward_from": 1.0, "grade_to": 0.0, "samples": grader["start"]["samples"]}
    assert grader["alarm"] and grader["missing"] == 0.0 and grader["exploit"][1] > grader["exploit"][0]
    assert grader["first_appearance"] >= 1 and grader["most"] > 0.3
    samples = figures["samples"]
    assert len(samples) == 24 and all(sample["grades"] == {"grader": 0.0} for sample in samples)
    prompts = [sample["prompt"] for sample in samples]
    assert len(set(prompts)) > 12, "every prompt once before any twice"


def test_without_an_audit_there_is_no_word_of_one(tmp_path: Path, tokenizer_folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        run = record_run(tmp_path / "run", Clock(patch), tokenizer_folder, steps=4)
    assert audit(Records.read(run), Rollouts(run, 100, [])) is None
    html = write_report(run).read_text()
    assert '"audited":null' in html and 'id="audit"' not in html


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    assert path is not None
    with Browser(path) as browser:
        yield browser


@needs_browser
def test_the_page_shows_the_audit_and_opens_its_samples(browser: Browser, folder: Path) -> None:
    browser.open(write_report(folder).as_uri())
    browser.press("6")
    browser.wait("document.body.dataset.ready == 'audit' && document.querySelector('#graders td')")
    table = browser.texts("#graders td")
    assert table[:2] == ["rl", "grader"] and table[-1] == "raised"
    assert browser.count(".telling .card") == 24
    browser.picture(folder.parent / "audit.png")
    (row,) = browser.texts(".telling button")[:1]
    assert row == "open"
    wanted = browser.run("document.querySelector('.telling button').dataset.row")
    browser.run("document.querySelector('.telling button').click()")
    browser.wait(f"document.getElementById('detail')?.dataset.row == '{wanted}'")
    assert any("exploit" in text for text in browser.texts("#detail .chip"))
    browser.run(
        "(e => { e.value = '1'; e.dispatchEvent(new Event('change')); })(document.getElementById('filter-audit'))"
    )
    browser.wait(
        "document.querySelector('.row') && !document.querySelector('#found').textContent.includes('searching')"
    )
    rows = browser.texts(".row .one")
    assert rows and all("exploit" in text for text in rows)
    browser.picture(folder.parent / "exploits.png")
    assert browser.errors == []


@needs_browser
def test_a_page_without_an_audit_has_no_such_tab(browser: Browser, tmp_path: Path, tokenizer_folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        run = record_run(tmp_path / "run", Clock(patch), tokenizer_folder, steps=4)
    browser.open(write_report(run).as_uri())
    tabs = browser.run("JSON.stringify([...document.querySelectorAll('#tabs button')].map((b) => b.id))")
    assert json.loads(tabs) == [
        "tab-curves", "tab-timeline", "tab-rollouts", "tab-settings", "tab-events",
    ]  # fmt: skip
    browser.press("3")
    browser.wait("document.body.dataset.ready == 'rollouts' && document.querySelector('#detail h2')")
    assert browser.count("#filter-audit") == 0 and browser.errors == []
