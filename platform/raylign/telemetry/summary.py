"""What is about to run, in few lines: at the start of a run and of ``raylign plan``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raylign.audit.cost import audit_summary
from raylign.config.differing import ALWAYS, differing, listed
from raylign.config.headline import headline
from raylign.config.resolve import ResolvedPart, ResolvedStage, Run
from raylign.config.schema import Config, DataConfig, OptimConfig, Schedule
from raylign.plan import Plan, Role
from raylign.telemetry.units import before_of, title, written

if TYPE_CHECKING:
    from raylign.telemetry.progress import Progress
    from raylign.telemetry.recorder import Recorder

WIDTH = 110  # of a line
LINES = 20  # of the summary: with the folder, the data and what is started a start stays within 25
INDENT = 11
NUMBERS = ("steps", "epochs", "batch_size", "batch_pairs", "samples", "prompts")  # of a stage, told whatever they are
OF_SHAPE = ("steps", "prompts_per_step", "group_size", "minibatches", "epochs")  # of a stage that samples groups
PLAIN = {  # parts that are told only where they are others
    "source": "DatasetSource",
    "rollout.strategy": "SingleTurn",
    "shaper": "WeightedSum",
    "selector": "KeepAll",
}
MORE = "`raylign plan --all` prints every setting, resolved.yaml in the run folder keeps them"


def summary(run: Run, plan: Plan) -> str:
    """Recipe, model, data, stages, objective, rewards and roles of a run."""
    config = run.config
    lines = [f"{'recipe':<{INDENT}}{config.recipe}, scale {config.scale}, seed {config.seed}", *toy_scale(config)]
    lines += _line("model", f"{plan.model}, context {config.model.max_context:,}")
    lines += _line("data", _data(config))
    stages = [line for stage in run.stages for line in _line(f"{stage.name}", _stage(stage, config))]
    rest = [*_objectives(run), *_line("parts", _parts(run), 2), *_line("rewards", _rewards(run), 2)]
    rest += _line("audit", audit_summary(run), 2)
    rest += _line("roles", _roles(plan), 2)
    room = max(2, LINES - len(lines) - len(rest) - 1)
    if len(stages) > room:
        stages = [*stages[: room - 1], f"{'':<{INDENT}}and {len(stages) - room + 1} more stages"]
    return "\n".join([*lines, *stages, *rest, f"{'all of it':<{INDENT}}{MORE}"])


def announce(run: Run, plan: Plan, recorder: Recorder, progress: Progress) -> None:
    """Say what is about to run, and record what it is judged by."""
    progress.message(summary(run, plan))
    recorder.event("headline", metric=headline(run).partition("/")[2])


def closing(run: Run, ended: Mapping[str, Any], report: Path) -> str:
    """The last lines of a run: its headline in the order of the stages, the model, the report.

    ended: of the run, ``{"model": folder, "metrics": {"<stage>/<metric>": number}}``.
    """
    metric = headline(run).partition("/")[2]
    values = []
    for name, value in ended["metrics"].items():
        stage, _, own = name.partition("/")
        if own and own in (metric, before_of(metric)):
            values.append(f"{stage}{' before' if own != metric else ''} {written(metric, value)}")
    lines = [f"{title(metric)}: {' -> '.join(values)}"] if values else []
    return "\n".join([*lines, f"model:  {ended['model']}", f"report: {report}"])


def toy_scale(config: Config) -> list[str]:
    """That scale=tiny stands for a toy, where a model or data of somebody's own are trained."""
    own = [key for key, path in (("model.path", config.model.path), ("data.path", config.data.path)) if path]
    if config.scale != "tiny" or not own:
        return []
    sampling, data = config.rollout.sampling, config.data
    numbers = (
        f"prompts of {data.max_prompt_tokens:,} and answers of {sampling.max_tokens:,} tokens, {config.model.dtype}"
    )
    verb = "are" if len(own) > 1 else "is"
    return [
        f"warning: TOY SCALE: scale=tiny is for toys on a CPU; {' and '.join(own)} {verb} your own.",
        f"warning: TOY SCALE: {numbers}, {_held_out(data)}, rates of a tiny model.",
        "warning: TOY SCALE: write scale=gpu, node or cluster for a run of real size, or set these numbers yourself.",
    ]


def _held_out(data: DataConfig) -> str:
    return "a tenth of the rows held out" if data.holdout is None else f"{data.holdout:,} rows held out"


def _line(name: str, text: str, most: int = 1) -> list[str]:
    """A named line, continued on up to `most`; what is longer is cut. No text, no line."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < most:
        room = WIDTH - INDENT
        if len(rest) > room and len(lines) + 1 == most:
            rest = f"{rest[: room - 1].rstrip(' ,;')}…"
        cut = len(rest) if len(rest) <= room else rest.rfind(" ", 0, room) + 1 or room
        head = f"{name:<{INDENT - 1}} " if not lines else " " * INDENT
        lines.append(f"{head}{rest[:cut].rstrip()}")
        rest = rest[cut:]
    return lines


def _data(config: Config) -> str:
    data = config.data
    made = str(data.generator.get("_target_", "")).rpartition(".")[2]
    source = data.path or made or data.task or "a source of its own"
    held = data.eval_path or _held_out(data)
    most = "at most " if data.path else ""
    rows = f"{most}{data.size:,} rows" if data.size else "all rows"
    return f"{source}, {rows}, {held}, prompts of at most {data.max_prompt_tokens:,} tokens"


def _stage(stage: ResolvedStage, config: Config) -> str:
    """Numbers and roles of a stage."""
    shape, told, settings = stage.batch, differing(stage.config), vars(stage.config)
    numbers = [f"{name} {settings[name]}" for name in NUMBERS if settings.get(name)]
    optim = settings.get("optim")
    if shape:
        many = f"{shape.group_size} sample{'s' * (shape.group_size > 1)}"
        numbers = [f"{shape.steps:,} steps of {shape.prompts_per_step:,} prompts x {many}"]
        updates = shape.minibatches * shape.epochs
        numbers += [f"{updates} updates a step"] if updates > 1 else []
        optim = config.learner.optim
    if isinstance(optim, OptimConfig):
        numbers.append(f"lr {optim.lr:g}{'' if optim.schedule is Schedule.constant else f' {optim.schedule.name}'}")
    known = OF_SHAPE if shape else NUMBERS
    others = {key: value for key, value in told.items() if not key.startswith("optim.") and key not in known}
    roles = ", ".join(sorted(stage.roles)) or "no actors"
    return f"{stage.cls.__name__} ({roles}): {', '.join([*numbers, *([listed(others)] if others else [])])}"


def _objectives(run: Run) -> Iterator[str]:
    """Advantage and objective of the stages that sample groups, and the objectives that others bring; each once."""
    told: set[str] = set()
    for stage in run.stages:
        kinds = ("advantage", "objective") if stage.batch else ("objective",)
        for kind in kinds:
            part = run.parts.get(f"{stage.key}.{kind}") or (run.parts.get(kind) if stage.batch else None)
            if part is None or part.key in told or (not stage.batch and _usual(part)):
                continue
            told.add(part.key)
            yield from _line(kind, _part(part) + (f" ({stage.name})" if part.key.startswith("stages.") else ""), 2)
    if any("rollout" in stage.roles for stage in run.stages):
        sampling = run.config.rollout.sampling
        others = listed(differing(sampling, without=("temperature", "max_tokens")))
        text = f"temperature {sampling.temperature:g}, answers of at most {sampling.max_tokens:,} tokens"
        yield from _line("sampling", f"{text}{', ' if others else ''}{others}")


def _usual(part: ResolvedPart) -> bool:
    """Whether an objective has nothing to tell but its aggregation."""
    return not {key for key in differing(part.config, ALWAYS) if key != "aggregation"}


def _part(part: ResolvedPart) -> str:
    values = listed(differing(part.config, ALWAYS))
    return f"{part.cls.__name__}{': ' if values else ''}{values}"


def _parts(run: Run) -> str:
    """Parts of the data path that are not the plain ones."""
    parts = [run.parts[key] for key in PLAIN if key in run.parts]
    parts = [part for part in parts if part.cls.__name__ != PLAIN[part.key] or differing(part.config)]
    environment = run.parts.get("environment.fn")
    parts += [environment] if environment else []
    return "; ".join(f"{part.key.removesuffix('.fn')} {_part(part)}" for part in parts)


def _rewards(run: Run) -> str:
    texts = []
    for name, reward in run.config.rewards.items():
        texts.append(f"{name}{_weight(name, run)} ({str(reward.fn.get('_target_', '')).rpartition('.')[2]})")
    return ", ".join(texts)


def _weight(name: str, run: Run) -> str:
    """What stages weigh a reward by: all that ask it by the same, or which by what."""
    stages: dict[float, list[str]] = {}
    for stage in run.stages:
        if name in run.asked(stage):
            stages.setdefault(run.weights(stage.name)[name], []).append(stage.name)
    if not stages:
        return " asked by no stage"
    if len(stages) == 1:
        weight = next(iter(stages))
        return "" if weight == 1 else f" x {weight:g}"
    return " x" + " and".join(f" {weight:g} in {', '.join(names)}" for weight, names in stages.items())


def _roles(plan: Plan) -> str:
    texts = [_role(role) for role in plan.roles]
    gpus = f", {plan.gpus:g} GPUs" if plan.gpus else ", no GPU"
    return f"{', '.join(texts)}; in all {plan.cpus:g} CPU{'s' * (plan.cpus != 1)}{gpus}"


def _role(role: Role) -> str:
    return f"{role.name} {role.actors}" + (f" x {role.gpus:g} GPU" if role.gpus else "")
