"""The page in a real browser: nothing complains, mouse and keyboard are answered, large runs stay usable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium
from recorded import Clock, record_run

from raylign.config.schema import TelemetryConfig
from raylign.telemetry.recorder import Recorder
from raylign.telemetry.report import write_report

pytestmark = [
    pytest.mark.skipif(chromium() is None, reason="no chromium on this machine (make browser installs Debian's)"),
    pytest.mark.timeout(1200),
]


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch, tokenizer_folder: Path
) -> dict[str, str]:
    """Addresses of three pages: one run, two runs, and one with 10,000 rollouts."""
    folder, clock = tmp_path_factory.mktemp("pages"), Clock(patch)
    one = record_run(folder / "one", clock, tokenizer_folder)
    other = record_run(folder / "other", clock, tokenizer_folder, steps=30, learning_rate=3e-4)
    large = record_run(folder / "large", clock, tokenizer_folder, steps=40, samples=277)
    return {
        "one": write_report(one).as_uri(),
        "two": write_report(one, [other], folder / "two.html").as_uri(),
        "large": write_report(large).as_uri(),
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    assert path is not None
    with Browser(path) as browser:
        yield browser


@pytest.fixture
def at(browser: Browser, pages: dict[str, str]) -> Iterator[Browser]:
    """The browser on the first page; no test may leave a complaint in the console."""
    browser.errors.clear()
    browser.requests.clear()
    browser.open(pages["one"])
    yield browser
    assert browser.errors == []
    assert all(address.startswith(("file:", "data:")) for address in browser.requests), browser.requests


def rollouts(browser: Browser) -> None:
    """Go to the rollouts, by key."""
    browser.press("3")
    browser.wait("document.body.dataset.ready == 'rollouts' && document.querySelector('#detail h2')")


def count_shown(browser: Browser) -> str:
    return browser.texts("#found")[0]


def change(browser: Browser, element: str, value: str, event: str) -> None:
    code = f"e.focus(); e.value = '{value}'; e.dispatchEvent(new Event('{event}'));"
    browser.run(f"((e) => {{ {code} }})(document.getElementById('{element}'))")


def select(browser: Browser, element: str, value: str) -> None:
    change(browser, element, value, "change")


def enter(browser: Browser, element: str, value: str) -> None:
    change(browser, element, value, "input")


def test_the_first_look(at: Browser) -> None:
    hero = at.texts(".tile.hero")[0]
    assert "31.0 %" in hero and "92.5 %" in hero and "+61.5 points" in hero
    tiles = " ".join(at.texts(".tile"))
    assert "62" in tiles and "finished" in tiles and "entropy_collapse" in tiles
    assert "samples become alike" in at.texts("#alarms")[0]
    place = at.run("document.querySelector('.tile.hero').getBoundingClientRect().bottom")
    assert place < 200, "without scrolling"


def test_curves_of_every_metric(at: Browser) -> None:
    titles = at.run("[...document.querySelectorAll('.chart')].map((e) => e.dataset.title)")
    assert {"reward/mean", "entropy", "length/mean", "loss/policy", "eval/score", "kl"} <= set(titles)
    assert "steady" not in titles and any("steady" in text for text in at.texts("#curve-groups td.key"))
    at.wait("document.querySelectorAll('[data-title=\"reward/mean\"] path.line').length == 1")
    raw, line = at.run(
        "['raw', 'line'].map((c) => document.querySelector(`[data-title=\"reward/mean\"] path.${c}`).getAttribute('d'))"
    )
    assert raw.count("L") == line.count("L") == 59 and raw != line
    assert at.count('[data-title="reward/mean"] .alarm[data-alarm=entropy_collapse]') == 1


def test_every_chart_has_one_unit(at: Browser, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    """Tokens, seconds and megabytes of a learner are three charts; what nobody knows the unit of stands alone."""
    recorder = Recorder(tmp_path, TelemetryConfig())
    for step in range(1, 5):
        learner = {"tokens": 1000.0 * step, "seconds": 0.1 * step, "peak_rss_mb": 600.0 + step, "rows": 64.0 * step}
        numbers = {f"learner/{name}": value for name, value in learner.items()}
        numbers |= {"length/mean": 3.0 + step, "length/max": 9.0 + step, "length/truncated": 0.1 * step}
        recorder.metrics(step, numbers | {"mine/a": 1.0 * step, "mine/b": 100.0 * step}, "rl")
    recorder.close()
    at.open(write_report(tmp_path).as_uri())
    charts = at.run("[...document.querySelectorAll('.chart')].map((e) => [e.dataset.title, e.dataset.unit])")
    assert sorted(charts) == sorted(
        [
            ["learner/tokens", "tokens"],
            ["learner/seconds", "s"],
            ["learner/peak_rss_mb", "MB"],
            ["learner/rows", "rows"],
            ["length", "tokens"],
            ["length/truncated", "share"],
            ["mine/a", ""],
            ["mine/b", ""],
        ]
    )
    at.wait("document.querySelectorAll('[data-title=length] .legend b').length == 2")
    assert (
        "mean" in at.texts("[data-title=length] .legend")[0] and "longest" in at.texts("[data-title=length] .legend")[0]
    )
    assert at.texts('[data-title="learner/peak_rss_mb"] h3')[0].startswith("peak memory of a rank (MB)")


def test_smoothing_axis_and_search(at: Browser) -> None:
    read = "document.querySelector('[data-title=\"reward/mean\"] path.line').getAttribute('d')"
    at.wait("document.querySelector('[data-title=\"reward/mean\"] path.line')")
    before = at.run(read)
    at.run("(e => { e.value = 0.95; e.dispatchEvent(new Event('input')); })(document.getElementById('smoothing'))")
    smoother = at.run(read)
    assert smoother != before
    ends = "[...document.querySelectorAll('[data-title=\"reward/mean\"] text')].map((e) => e.textContent).join(' ')"
    select(at, "axis", "time")
    assert ":" in at.run(ends), "minutes and seconds below the curve"
    select(at, "axis", "stage")
    assert at.run(ends).endswith("60 step of the stage"), "the first of the 60 steps is 1, whatever came before"
    select(at, "axis", "step")
    assert at.run(ends).endswith("60 step of rl"), "where one stage is shown, its own steps are counted"
    assert "61" not in at.run(ends).split()
    at.press("Escape")  # out of the choice of the axis, which takes letters itself
    at.press("/")
    assert at.run("document.activeElement.id") == "curve-filter"
    at.type("entro")
    at.wait("document.querySelectorAll('.chart').length == 1")


def test_a_cursor_by_keyboard(at: Browser) -> None:
    at.wait("document.querySelector('[data-title=entropy] path')")
    at.run("document.querySelector('[data-title=entropy] svg').focus()")
    at.press("ArrowRight")
    assert "rl step 1" in at.texts("[data-title=entropy] .legend")[0]
    at.press("ArrowRight", shift=True)
    assert "rl step 11" in at.texts("[data-title=entropy] .legend")[0]
    assert at.count("[data-title=entropy] .cursor") == 1


def test_two_runs_are_laid_over_each_other(at: Browser, pages: dict[str, str]) -> None:
    at.open(pages["two"])
    assert at.texts("#runs-legend span") == ["one", "other"]
    at.wait("document.querySelectorAll('[data-title=\"reward/mean\"] path.line').length == 2")
    strokes = at.run(
        "[...document.querySelectorAll('[data-title=\"reward/mean\"] path.line')].map((e) => e.style.stroke)"
    )
    assert len(set(strokes)) == 2
    at.press("4")
    at.wait("document.getElementById('differing')")
    assert "learner.optim.lr0.00010.0003" in at.texts("#differing")[0].replace(" ", "")


def test_the_timeline(at: Browser) -> None:
    at.press("2")
    at.wait("document.querySelectorAll('#lanes .span').length > 200")
    labels = at.texts("#lanes text")
    assert {"stage", "rollout", "reward", "learner"} <= set(labels)
    before = at.count("#lanes .span")
    at.run("document.getElementById('lanes').focus()")
    for _ in range(4):
        at.press("+")
    assert at.count("#lanes .span") < before / 4
    at.press("ArrowRight")
    at.press("0")
    assert at.count("#lanes .span") == before
    busy = at.texts("#panel-timeline table")[0]
    assert "rllearner" in busy and "%" in busy


def test_tabs_keys_help_and_theme(at: Browser) -> None:
    at.press("5")
    at.wait("document.body.dataset.ready == 'events'")
    assert "entropy_collapse" in at.texts("#panel-events")[0]
    assert at.run("document.activeElement.id") == "tab-events"
    at.press("ArrowRight")
    at.wait("document.body.dataset.ready == 'curves'")
    assert at.run("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus can be seen"
    at.press("?")
    assert at.run("document.getElementById('help').open")
    at.press("Escape")
    assert not at.run("document.getElementById('help').open")
    colour = "getComputedStyle(document.body).backgroundColor"
    at.scheme("light")
    light = at.run(colour)
    at.press("t")
    assert at.run(colour) != light
    at.press("t")
    assert at.run(colour) == light
    at.scheme("dark")
    at.run("document.documentElement.style.colorScheme = ''")
    assert at.run(colour) != light
    at.scheme("light")


def test_filters(at: Browser) -> None:
    rollouts(at)
    assert count_shown(at) == "228 of 228"
    select(at, "filter-stop", "done")
    at.wait("document.getElementById('found').textContent.startsWith('6 of')")
    select(at, "filter-stop", "")
    enter(at, "filter-low", "1.2")
    at.wait("document.getElementById('found').textContent.startsWith('6 of')")
    enter(at, "filter-low", "")
    enter(at, "filter-to", "4")
    at.wait("document.getElementById('found').textContent.startsWith('14 of')")
    enter(at, "filter-to", "")
    select(at, "filter-stage", "rl")
    at.wait("document.getElementById('found').textContent.startsWith('228 of')")
    at.press("Escape")
    at.press("/")
    at.type("NEEDLE7x")
    at.wait("document.getElementById('found').textContent.startsWith('2 of')")
    assert all("needle7x" in text for text in at.texts(".row .two"))
    enter(at, "search", "what is 1 + 2")
    at.wait("document.getElementById('found').textContent.startsWith('12 of')")
    enter(at, "search", "nowhere")
    at.wait("document.getElementById('found').textContent.startsWith('0 of')")
    assert "No rollout passes" in at.texts("#detail")[0]


def test_the_order(at: Browser) -> None:
    rollouts(at)
    select(at, "sort", "score-down")
    at.wait("document.querySelector('.row').textContent.includes('score 1.5')")
    select(at, "sort", "tokens-up")
    at.wait("[...document.querySelectorAll('.row')[0].querySelectorAll('span')].some((e) => e.textContent == '1 tok')")


def test_the_keyboard_moves_through_rollouts(at: Browser) -> None:
    rollouts(at)
    chosen = "document.querySelector('.row[aria-selected=true]').dataset.row"
    at.press("j")
    assert at.run(chosen) == "1"
    at.wait("document.getElementById('detail').dataset.row == '1'")
    at.run("document.getElementById('list').focus()")
    at.press("ArrowDown")
    at.press("ArrowDown")
    assert at.run(chosen) == "3"
    assert at.run("document.getElementById('list').getAttribute('aria-activedescendant')") == "row-3"
    at.press("n")
    assert at.run(chosen) == "6", "the next group begins there"
    at.press("End")
    assert at.run(chosen) == "227"
    at.press("Home")
    at.press("Enter")
    assert at.run("document.activeElement.id") == "detail"
    at.press("Escape")
    assert at.run("document.activeElement.id") == "list"


def test_a_dialogue_unfolded(at: Browser) -> None:
    rollouts(at)
    at.wait("document.querySelectorAll('.turn').length == 2")
    assert at.texts(".call[data-call=add] pre") == ['{\n "a": 1,\n "b": 2\n}']
    assert at.texts(".turn .tokens")[1].startswith("It is 3 für Dich.")
    assert "".join(at.texts(".context .said")) == "<|user|>3<|end|>"
    detail = at.texts("#detail")[0]
    assert "reward 0.25" in detail and "1152921504606846976" in detail and "valid" in detail
    verdicts = at.texts("[data-reward=checklist] .verdicts td")
    assert verdicts == ["cites the tool's answer", "yes", "it says 3", "is polite", "no", "no greeting"]
    at.press("j")
    at.wait("document.getElementById('detail').textContent.includes('missing: the judge did not answer')")


def test_tokens_change_their_colour(at: Browser) -> None:
    rollouts(at)
    read = "[...document.querySelectorAll('.turn .tok')].map((e) => e.style.background)"
    by_advantage = at.wait(read)
    assert len(set(by_advantage)) > 10
    at.press("c")
    at.wait(f"document.getElementById('colour').value == 'gap' && ({read})[8] != {by_advantage[8]!r}")
    by_gap = at.run(read)
    assert 5 <= len(set(by_gap)) <= 8 and "nat" in at.texts("#scale")[0]
    select(at, "colour", "mask")
    at.wait(f"({read})[1] == ''")
    by_mask = at.run(read)
    assert by_mask[0] and not by_mask[1], "the second token has no weight in the loss"
    assert at.run("[...document.querySelectorAll('.context .tok')].every((e) => !e.style.background)")
    title = at.run("document.querySelectorAll('.turn .tok')[1].title")
    assert "not in the loss" in title and "sampler" in title and "log-prob" in title


def test_ten_thousand_rollouts(at: Browser, pages: dict[str, str]) -> None:
    at.open(pages["large"])
    rollouts(at)
    total = 4 * 2 + 36 * 277
    assert count_shown(at) == f"{total:,} of {total:,}" and total > 9_900
    bound = 40
    assert at.count(".row") <= bound
    at.run("document.getElementById('list').scrollTop = 200000")
    at.wait("[...document.querySelectorAll('.row')].some((e) => Number(e.dataset.row) > 4340)")
    assert at.count(".row") <= bound
    at.run("document.getElementById('list').focus()")
    at.press("End")
    at.wait(f"document.getElementById('detail').dataset.row == '{total - 1}'")
    assert at.count(".row") <= bound and at.count("*") < 6_000
    enter(at, "search", "needle33x14")
    at.wait("document.getElementById('found').textContent.startsWith('8 of')")  # 14 and 140 to 149, without every third
    assert at.count(".row") == 8
    enter(at, "search", "")
    select(at, "filter-stop", "length")
    at.wait("document.getElementById('found').textContent.startsWith('2,')")
    assert at.count(".row") <= bound
