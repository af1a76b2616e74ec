"""The picture of a run as an SVG: the reward of every training step, and every held-out score.

The numbers stand in the picture's own metadata, so that it can be drawn again without the run.

    python -m benchmarks.reward_curve outputs/grpo-tiny-seed3 --to platform/pictures/reward_curve.svg
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

WIDTH, HEIGHT = 860, 330
LEFT, RIGHT, TOP, BOTTOM = 58, 24, 52, 46
STYLE = """
.panel { fill: #f6f8fa; stroke: #d0d7de } .grid { stroke: #d0d7de } .axis { stroke: #59636e }
text { fill: #1f2328; font-size: 14px } .small { fill: #59636e; font-size: 12.5px }
.reward { fill: none; stroke: #0969da; stroke-width: 1.8 } .score { fill: #bc4c00; stroke: #bc4c00 }
.line { fill: none; stroke: #bc4c00; stroke-width: 1.2; stroke-dasharray: 5 4 }
.reward-text { fill: #0969da } .score-text { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
.panel { fill: #161b22; stroke: #30363d } .grid { stroke: #30363d } .axis { stroke: #9198a1 }
text { fill: #e6edf3 } .small { fill: #9198a1 }
.reward { stroke: #4493f8 } .score { fill: #f0883e; stroke: #f0883e } .line { stroke: #f0883e }
.reward-text { fill: #4493f8 } .score-text { fill: #f0883e }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What is drawn. rewards: mean reward of training step 1, 2, ...; scores: (step, held-out score), step 0 before."""

    title: str
    rewards: tuple[float, ...]
    scores: tuple[tuple[int, float], ...]


def read(run: Path, stage: str = "rl") -> Curve:
    """The curve of one stage of a run, with the evaluations around it.

    Raises ValueError without any step, and on a reward or score outside 0 to 1.
    """
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["stage"] == stage]
    if not steps:
        raise ValueError(f"{run} has no step of stage {stage}")
    first, last = lines.index(steps[0]), lines.index(steps[-1])
    scores = [(0, line["eval/score"]) for line in lines[:first] if "eval/score" in line][-1:]
    scores += [(number, line["eval/score"]) for number, line in enumerate(steps, 1) if "eval/score" in line]
    after = [line["eval/score"] for line in lines[last + 1 :] if "eval/score" in line]
    if after and len(steps) not in dict(scores):
        scores.append((len(steps), after[0]))
    rewards = tuple(round(line["reward/mean"], 4) for line in steps)
    curve = Curve(
        title=run.resolve().name, rewards=rewards, scores=tuple((step, round(score, 4)) for step, score in scores)
    )
    if not all(0 <= value <= 1 for value in (*rewards, *(score for _, score in scores))):
        raise ValueError(f"{run} has rewards or scores outside 0 to 1, which the picture has no room for")
    return curve


def drawn_from(picture: str) -> Curve:
    """The curve that a picture was drawn from. Raises ValueError for a picture that `draw` did not make."""
    match = re.search(r"<metadata>(.*?)</metadata>", picture, re.DOTALL)
    if match is None:
        raise ValueError("the picture has no metadata to draw it from")
    fields = json.loads(match[1])
    scores = tuple((int(step), float(score)) for step, score in fields["scores"])
    return Curve(title=fields["title"], rewards=tuple(fields["rewards"]), scores=scores)


def draw(curve: Curve) -> str:
    """The picture as the text of an SVG file."""
    steps = len(curve.rewards)
    body = [f'<rect class="panel" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="12"/>']
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        body.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        body.append(f'<text class="small" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
    for step in range(0, steps + 1, max(1, steps // 6)):
        x = _x(step, steps)
        body.append(f'<text class="small" x="{x}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{step}</text>')
    body.append(f'<path class="axis" d="M{LEFT} {_y(0)}H{WIDTH - RIGHT}"/>')
    body.append(f'<text class="small" x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">step of RL</text>')
    body.append(f'<path class="reward" d="{_path(enumerate(curve.rewards, 1), steps)}"/>')
    body.append(f'<path class="line" d="{_path(curve.scores, steps)}"/>')
    for step, score in curve.scores:
        x, y = _x(step, steps), _y(score)
        anchor = "start" if step == 0 else "end" if step == steps else "middle"
        body.append(f'<circle class="score" cx="{x}" cy="{y}" r="4"/>')
        body.append(f'<text class="score-text" x="{x}" y="{y - 10:.1f}" text-anchor="{anchor}">{score:.1%}</text>')
    body.append(f'<text x="{LEFT}" y="30">{curve.title}</text>')
    body.append(f'<text class="reward-text" x="{WIDTH - 250}" y="30" text-anchor="end">reward of the step</text>')
    body.append(f'<text class="score-text" x="{WIDTH - RIGHT}" y="30" text-anchor="end">held-out score (greedy)</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
    head += "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\">"
    title = f"<title>{curve.title}: reward of every step, held-out score</title>"
    parts = [head, title, f"<metadata>{json.dumps(asdict(curve))}</metadata>", f"<style>{STYLE}</style>", *body]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(step: int, steps: int) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * step / steps, 1)


def _y(value: float) -> float:
    """Rewards and scores are drawn from 0 to 1."""
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value, 1)


def _path(points: Iterable[tuple[int, float]], steps: int) -> str:
    return "M" + " ".join(f"{_x(step, steps)} {_y(value)}" for step, value in points)


def main(arguments: Sequence[str]) -> int:
    """Draw one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--stage", default="rl", help="the stage whose steps are drawn")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="the SVG file")
    parsed = parser.parse_args(arguments)
    parsed.to.write_text(draw(read(parsed.run, parsed.stage)))
    print(parsed.to)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
