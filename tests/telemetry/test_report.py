"""What the report says about a run, and that it is one file which fetches nothing, whatever the folder holds."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from recorded import VERDICTS, Clock, record_run

from raylign.config.schema import TelemetryConfig
from raylign.telemetry import report
from raylign.telemetry.recorder import Recorder
from raylign.telemetry.report import write_report
from raylign.telemetry.report.folder import Records
from raylign.telemetry.report.headline import headline, results
from raylign.telemetry.report.rollouts import Rollouts
from raylign.telemetry.report.timeline import spans, stage_spans, timeline
from raylign.telemetry.report.vocabulary import vocabulary
from raylign.telemetry.shown import duration
from raylign.telemetry.units import unit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def run(tmp_path: Path, clock: Clock, tokenizer_folder: Path) -> Path:
    return record_run(tmp_path / "run", clock, tokenizer_folder, steps=20)


def packed(html: str, name: str) -> Any:
    match = re.search(rf'<script type="application/gzip" id="{name}">([^<]*)</script>', html)
    assert match, name
    return json.loads(gzip.decompress(base64.b64decode(match[1])))


def plain(html: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="run">(.*?)</script>', html, re.S)
    assert match
    return dict(json.loads(match[1]))


def test_the_headline(run: Path) -> None:
    headline = plain(write_report(run).read_text())
    assert (headline["name"], headline["finished"], headline["steps"]) == ("run", True, 22)
    assert (headline["score"]["before"], headline["score"]["after"]) == (0.31, 0.925)
    assert headline["time"] == "1:29", "20 steps of 4 s and 9 s around them"
    assert headline["tokens"] == 20_000 and headline["speed"] == 250
    (alarm,) = headline["alarms"]
    assert alarm["alarm"] == "entropy_collapse" and alarm["hint"] == "samples become alike"
    assert [stage["steps"] for stage in headline["stages"]] == [1, 20, 1]


def test_one_file_that_fetches_nothing(run: Path) -> None:
    html = write_report(run).read_text()
    assert "default-src 'none'" in html
    assert not re.search(r'src\s*=\s*["\']|@import|url\(|fetch\(|XMLHttpRequest|WebSocket', html)
    addresses = set(re.findall(r"https?://[^\"'\s<]+", re.sub(r'<script type="application.*?</script>', "", html)))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the name of SVG's elements is all"
    assert "<!--" not in html.replace("<!doctype", "") and "/*script*/" not in html


def test_values_cannot_end_the_script_that_holds_them(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run", TelemetryConfig())
    recorder.settings({"recipe": "</script><b>"})
    recorder.metrics(1, {"loss": 1.0}, "sft")
    recorder.close()
    html = write_report(tmp_path / "run").read_text()
    assert "</script><b>" not in html and plain(html)["facts"][0] == ["recipe", "</script><b>"]


def test_columns_of_metrics(run: Path) -> None:
    (curves,) = packed(write_report(run).read_text(), "curves")
    assert curves["stages"] == ["before", "rl", "after"] and curves["step"] == list(range(1, 23))
    assert curves["metrics"]["eval/score"] == [pytest.approx(0.31), *[None] * 20, pytest.approx(0.925)]
    assert curves["metrics"]["kl"][6] is None, "NaN is nothing"
    assert curves["alarms"] == [[12, "entropy_collapse", "entropy"]]


def test_spans_and_busy_seconds(run: Path) -> None:
    records = Records.read(run)
    phases = spans(records)
    assert len(phases) == 2 + 5 * 20
    first = phases[1]
    assert (first.stage, first.phase, first.step) == ("rl", "rollout", 1)
    assert (first.start, first.end) == (pytest.approx(6), pytest.approx(8))
    assert [(band.stage, round(band.end - band.start)) for band in stage_spans(records)] == [
        ("before", 3),
        ("rl", 83),
        ("after", 3),
    ]
    table = timeline(records)["table"]
    rl = table[1]
    assert rl["seconds"] == pytest.approx(83) and rl["phases"]["learn"] == pytest.approx(20)
    assert rl["roles"]["rollout"] == pytest.approx(20 * 2.25), "sampling and taking new weights"
    assert rl["roles"]["learner"] == pytest.approx(20 * 1.5), "scoring, learning, publishing"
    assert rl["roles"]["reward"] == pytest.approx(10) and "frozen" not in rl["roles"]
    assert table[0]["roles"] == {"rollout": pytest.approx(2), "reward": pytest.approx(2)}


def test_what_a_killed_process_did_last_is_not_counted(tmp_path: Path, clock: Clock) -> None:
    recorder = Recorder(tmp_path, TelemetryConfig())
    recorder.event("stage_started", stage="rl", model="")
    recorder.event("phase", stage="rl", stage_step=0, phase="rollout")
    clock.pass_(2)
    recorder.event("phase", stage="rl", stage_step=0, phase="learn")
    clock.pass_(1)
    recorder.metrics(1, {"loss": 1.0}, "rl")
    recorder.event("phase", stage="rl", stage_step=1, phase="rollout")
    clock.pass_(3600)  # killed, and continued an hour later
    recorder.event("stage_started", stage="rl", model="")
    recorder.event("resumed", stage="rl")
    clock.pass_(1)
    recorder.event("phase", stage="rl", stage_step=1, phase="rollout")
    clock.pass_(2)
    recorder.event("stage_finished", stage="rl")
    recorder.close()
    records = Records.read(tmp_path)
    assert [(span.phase, span.end - span.start) for span in spans(records)] == [
        ("rollout", pytest.approx(2)),
        ("learn", pytest.approx(1)),
        ("rollout", pytest.approx(2)),
    ]
    assert sum(band.end - band.start for band in stage_spans(records)) == pytest.approx(3 + 3)


def test_measured_idle_shares_count_before_phases(tmp_path: Path, clock: Clock) -> None:
    recorder = Recorder(tmp_path, TelemetryConfig())
    recorder.event("stage_started", stage="rl", model="")
    for step in range(4):
        recorder.event("phase", stage="rl", stage_step=step, phase="learn")
        clock.pass_(5)
        recorder.metrics(step + 1, {"time/step": 5.0, "idle/rollout": 0.2, "async/in_flight": 3.0}, "rl")
    recorder.event("stage_finished", stage="rl")
    recorder.close()
    (row,) = timeline(Records.read(tmp_path))["table"]
    assert row["roles"] == {"rollout": pytest.approx(16), "learner": pytest.approx(20)}


def test_rollouts_hold_turns_calls_and_verdicts(run: Path) -> None:
    html = write_report(run).read_text()
    index = packed(html, "index")
    columns = index["columns"]
    assert len(columns["step"]) == 2 * 2 + 18 * 4 and index["stops"] == ["done", "eos", "length"]
    assert columns["turns"][0] == 2 and columns["score"][:2] == [1.5, None]
    assert index["rewards"]["checklist"][:2] == [0.5, None]
    assert index["prompts"][0]["domain"] == "arithmetic" and index["prompts"][0]["answer"] == {
        "calls": ["add"],
        "value": 3,
    }
    first, second = packed(html, "bodies-0")[:2]
    assert first["seed"] == str(2**60), "as text: JavaScript's numbers end at 2^53"
    assert first["rewards"]["checklist"]["details"]["verdicts"] == VERDICTS
    assert second["rewards"]["checklist"] == {"missing": "the judge did not answer"}
    one, two = first["turns"]
    assert one["flags"]["tool_calls"] == [{"name": "add"}] and one["reward"] == 0.25 and one["context"] == []
    assert len(first["gap"]) == len(one["ids"]) + len(two["ids"]) == len(first["advantage"])
    assert first["weight"][1] == 0 and second["advantage"] is None and second["gap"] is None
    words = {
        i: base64.b64decode(p) for i, p in zip(index["vocabulary"]["ids"], index["vocabulary"]["pieces"], strict=True)
    }
    assert b"".join(words[i] for i in two["ids"]).decode() == "It is 3 für Dich."
    assert b"".join(words[i] for i in two["context"]).decode() == "<|user|>3<|end|>"
    assert packed(html, "texts-0")[0].startswith("<tool_call>")


def test_too_many_rollouts_are_thinned_by_step(run: Path) -> None:
    every = Rollouts(run, 10_000, [])
    assert len(every) == every.recorded == 76 and every.every == 1 and every.index["vocabulary"] is None
    some = Rollouts(run, 30, [])
    steps = set(some.index["columns"]["step"])
    assert some.every == 3 and some.recorded == 76 and len(some) <= 30 + 4
    assert {2, 21} <= steps and len(steps) == 8, "the first and the last step stay"
    assert len(Rollouts(run, 0, [])) == 0


def test_bytes_of_split_characters(tokenizer_folder: Path) -> None:
    from tokenizers import Tokenizer

    place = tokenizer_folder / "tokenizer.json"
    ids = Tokenizer.from_file(str(place)).encode("日 é\n").ids
    table = vocabulary(ids, [Path("/nowhere"), place])
    assert table is not None
    words = dict(zip(table["ids"], map(base64.b64decode, table["pieces"]), strict=True))
    assert b"".join(words[i] for i in ids).decode() == "日 é\n"


def recorded(folder: Path, lines: list[dict[str, Any]], events: list[dict[str, Any]] | None = None) -> Records:
    """A run of these records."""
    for name, rows in (("metrics", lines), ("events", events or [])):
        text = "".join(json.dumps({"time": n, "step": n, **row}) + "\n" for n, row in enumerate(rows, 1))
        (folder / f"{name}.jsonl").write_text(text)
    return Records.read(folder)


def test_scores_of_runs_without_evaluations(tmp_path: Path) -> None:
    lines = [{"stage": "rl", "step": step, "reward/mean": step / 100} for step in range(100)]
    (scores,) = results(recorded(tmp_path, lines))
    assert scores["what"] == "training reward"
    assert scores["before"] == pytest.approx(0.045) and scores["after"] == pytest.approx(0.945)
    (loss,) = results(recorded(tmp_path, [{"stage": "sft", "loss": 0.9}, {"stage": "sft", "loss": 0.4}]))
    assert (loss["what"], loss["before"], loss["after"]) == ("loss", 0.9, 0.4)
    assert loss["lower"] and not loss["share"], "a loss is no percentage, and falls when it is better"
    assert results(recorded(tmp_path, [{"stage": "fit", "step": 1, "rows": 3}])) == []
    inside = [{"stage": "rl", "step": step, "eval/score": step / 10} for step in range(3)]
    (scores,) = results(recorded(tmp_path, inside))
    assert (scores["before"], scores["after"]) == (0.0, 0.2)
    assert results(recorded(tmp_path, inside[:1]))[0]["before"] is None


def test_a_loss_is_compared_within_its_own_stage(tmp_path: Path) -> None:
    lines = [{"stage": "sft", "loss": 9.0}] * 3 + [{"stage": "rl", "loss": 0.2}, {"stage": "rl", "loss": 0.1}]
    (loss,) = results(recorded(tmp_path, lines, [{"kind": "headline", "metric": "loss"}]))
    assert (loss["before"], loss["after"]) == (0.2, 0.1)


def test_the_headline_of_prompt_sets_is_their_score_and_not_the_reward(tmp_path: Path) -> None:
    """Depth scores that were measured stand at the top, whatever the training reward does."""
    before = [{"stage": "before", f"depth_{depth}/score": 0.1 * depth} for depth in (1, 2)]
    training = [
        {"stage": "rl", "reward/mean": 0.9 - 0.2 * step, "loss": 0.1, "reward/score": 0.5, "time/score": 0.002}
        for step in range(3)
    ]
    after = [{"stage": "after", f"depth_{depth}/score": 0.3 * depth} for depth in (1, 2)]
    run = recorded(tmp_path, before + training + after, [{"kind": "headline", "metric": "depth_2/score"}])
    deep, plain = results(run)
    assert (deep["what"], deep["before"], deep["after"], deep["share"]) == ("score of depth_2", 0.2, 0.6, True)
    assert (plain["metric"], plain["before"], plain["after"]) == ("depth_1/score", 0.1, 0.3)
    assert results(recorded(tmp_path, training, [{"kind": "headline", "metric": "depth_2/score"}]))[0]["metric"] == (
        "reward/mean"
    ), "before anything is evaluated"


def test_the_headline_of_preferences(tmp_path: Path) -> None:
    """Held-out accuracy, margin and loss: what the stage measured before its first step, and its last evaluation."""
    names = {"rewards/accuracy": (0.5, 0.8), "rewards/margin": (0.0, 1.5), "loss": (0.69, 0.4)}
    held = {"kind": "held_out", "stage": "preference"} | {f"before/{name}": v for name, (v, _) in names.items()}
    other = {"kind": "held_out", "stage": "sft", "before/rewards/accuracy": 0.1}
    steps: list[dict[str, Any]] = [{"stage": "preference", "loss": 0.7, "rewards/accuracy": 0.55} for _ in range(4)]
    steps[-1] |= {f"eval/{name}": value for name, (_, value) in names.items()}
    headline = {"kind": "headline", "metric": "eval/rewards/accuracy"}
    accuracy, margin, loss = results(recorded(tmp_path, steps, [headline, held, other]))
    assert (accuracy["what"], accuracy["before"], accuracy["after"]) == ("held-out accuracy", 0.5, 0.8)
    assert (margin["what"], margin["before"], margin["after"], margin["share"]) == ("held-out margin", 0.0, 1.5, False)
    assert (loss["what"], loss["before"], loss["after"], loss["lower"]) == ("held-out loss", 0.69, 0.4, True)


def test_known_metrics_have_one_unit_each() -> None:
    """Names that one family mixes; absent where nobody knows."""
    units = {
        "s": ("time/step", "learner/seconds", "publish/load", "loop/lag_max_s", "reward_pool/x/latency_mean_s"),
        "tokens": ("learner/tokens", "length/mean", "eval/length/max", "tokens/sampled", "select/tokens_kept"),
        "tokens/s": ("tokens/per_second", "learner/tokens_per_second"),
        "share": ("length/empty", "missing/rollout", "eval/rewards/accuracy", "groups/equal", "idle/learner"),
        "nat": ("sampler_gap", "max/sampler_gap", "publish/gap_mean", "ref_kl", "entropy", "eval/margin"),
        "groups": ("groups/dropped", "async/in_flight", "select/groups_kept"),
        "score": ("reward/mean", "eval/score", "depth_2/score", "reward/correct"),
        "loss": ("loss", "loss/policy", "eval/loss", "critic/loss/value"),
        "MB": ("learner/peak_rss_mb",),
        "": ("mine/a", "arlcp/tier"),
    }
    for wanted, names in units.items():
        assert {name: unit(name) for name in names} == dict.fromkeys(names, wanted)


def test_comparison_with_other_runs(run: Path, tmp_path: Path, clock: Clock, tokenizer_folder: Path) -> None:
    other = record_run(tmp_path / "other", clock, tokenizer_folder, steps=12, learning_rate=3e-4)
    path = write_report(run, [other], tmp_path / "both.html", rollouts=0)
    html = path.read_text()
    assert [one["name"] for one in packed(html, "curves")] == ["run", "other"]
    assert packed(html, "tables")["differing"] == [["learner.optim.lr", "0.0001", "0.0003"]]
    assert plain(html)["beside"][0]["name"] == "other" and 'id="index"' not in html
    assert not (run / "report.html").exists()


def test_an_empty_folder_and_a_young_run(tmp_path: Path) -> None:
    empty = plain(write_report(tmp_path).read_text())
    assert empty["steps"] == 0 and empty["score"] is None and not empty["finished"]
    recorder = Recorder(tmp_path, TelemetryConfig())
    recorder.metrics(1, {"loss": 0.5}, "sft")
    recorder.close()
    with (tmp_path / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"step":2,"st')
    assert plain(write_report(tmp_path).read_text())["steps"] == 1


def test_the_page_stays_small(run: Path) -> None:
    files = sum(path.stat().st_size for path in (run / "rollouts").iterdir())
    assert write_report(run).stat().st_size < 120_000 + files / 2


def test_the_page_has_no_list_of_roles_of_its_own(run: Path) -> None:
    """A lane whose role the page's script does not know would be left out without a word."""
    script = (Path(report.__file__).parent / "timeline.js").read_text()
    roles = timeline(Records.read(run))["roles"]
    assert "TIME.roles" in script and {"rollout", "reward", "frozen", "learner"} == set(roles)
    assert "ROLES" not in script and '"scorer"' not in script


@pytest.mark.parametrize("ends", [("stopped",), ("failed",), ()], ids=["stopped", "failed", "killed"])
def test_between_a_process_and_the_next_nothing_ran(tmp_path: Path, ends: tuple[str, ...]) -> None:
    begin = {"kind": "headline", "metric": "eval/score"}
    events = [
        {**begin, "time": 0.0},
        {"kind": "stage_started", "stage": "rl", "time": 1.0},
        {"kind": "phase", "stage": "rl", "phase": "learn", "time": 2.0},
        *({"kind": kind, "time": 5.0} for kind in ends),
        {**begin, "time": 105.0},
        {"kind": "stage_started", "stage": "rl", "time": 106.0},
        {"kind": "phase", "stage": "rl", "phase": "learn", "time": 107.0},
        {"kind": "stage_finished", "stage": "rl", "metrics": {}, "time": 109.0},
    ]
    lines = [{"stage": "rl", "time": 4.0}, {"stage": "rl", "time": 108.0}]
    run = recorded(tmp_path, lines, events)
    end = 5.0 if ends else 4.0
    assert [(band.start, band.end) for band in stage_spans(run)] == [(1.0, end), (106.0, 109.0)]
    assert [(span.start, span.end) for span in spans(run)][-1] == (107.0, 109.0)
    assert all(span.end <= end or span.start >= 106 for span in spans(run))
    assert run.worked == pytest.approx(end + 4.0) and headline(run)["time"] == duration(run.worked)
