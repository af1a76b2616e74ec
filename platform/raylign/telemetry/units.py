"""What the metrics of a run are: their units, by which a report keeps its curves apart, and words for a person."""

from __future__ import annotations

import re

from raylign.telemetry.shown import NO_SETS

WORDS = {  # metric -> what a person calls it; others are called by their names
    "eval/score": "held-out score",
    "eval/best": "held-out score, best of the samples",
    "eval/rewards/accuracy": "held-out accuracy",
    "eval/agreement": "held-out accuracy",
    "eval/rewards/margin": "held-out margin",
    "eval/margin": "held-out margin",
    "eval/loss": "held-out loss",
    "eval/nll": "held-out loss a token",
    "eval/prompts": "prompts evaluated",
    "rewards/accuracy": "accuracy",
    "rewards/margin": "margin",
    "agreement": "accuracy",
    "reward/mean": "training reward",
    "reward/std": "standard deviation of the reward",
    "reward/score": "score that is learned from",
    "reward/unscored": "samples without a score",
    "reward/overlong": "samples cut for their length",
    "loss": "loss",
    "loss/policy": "policy loss",
    "loss/ce": "cross-entropy",
    "loss/kl": "KL penalty",
    "nll": "negative log-likelihood a token",
    "entropy": "entropy of the policy",
    "ref_kl": "KL to the reference",
    "approx_kl_k1": "KL within a step (k1)",
    "approx_kl_k3": "KL within a step (k3)",
    "ratio": "mean probability ratio",
    "clip_low": "tokens clipped below",
    "clip_high": "tokens clipped above",
    "grad_norm": "gradient norm",
    "lr": "learning rate",
    "sampler_gap": "gap between engine and learner, mean",
    "max/sampler_gap": "gap between engine and learner, largest",
    "mismatch_weight": "mean weight for the mismatch",
    "max/mismatch_weight": "largest weight for the mismatch",
    "mismatch_cut": "tokens cut for the mismatch",
    "length/mean": "mean length of the answers",
    "length/max": "longest answer",
    "length/truncated": "answers cut off",
    "length/empty": "empty answers",
    "groups/equal": "groups with equal scores",
    "groups/fill": "share of the step that was filled",
    "groups/dropped": "groups left out",
    "missing/share": "samples without a score",
    "missing/rollout": "failed samples",
    "audit/samples": "samples that graders were asked about",
    "audit/share": "share of all samples that graders were asked about",
    "time/audit_tail": "waiting for the last grades",
    "idle/learner": "learner idle",
    "idle/rollout": "engines idle",
    "learner/seconds": "time of the slowest rank",
    "learner/peak_rss_mb": "peak memory of a rank",
    "learner/rank_balance": "balance of the ranks",
    "learner/tokens": "computed tokens",
    "learner/tokens_per_second": "speed of the learner",
    "learner/optimizer_step": "optimizer steps so far",
    "learner/micro_batches": "micro-batches of a rank",
    "learner/rows": "rows that were learned from",
    "publish/gap_mean": "probe after a weight update, mean",
    "publish/gap_max": "probe after a weight update, largest",
    "loop/lag_max_s": "longest block of the driver",
    "tokens/sampled": "sampled tokens",
    "tokens/per_second": "speed of all together",
    "time/reward_tail": "waiting for the last rewards",
}
SHORT = {  # metric without eval/ and the like -> what it is called beside others of its family
    "reward/mean": "mean",
    "reward/std": "standard deviation",
    "reward/score": "score",
    "length/mean": "mean",
    "length/max": "longest",
    "length/truncated": "cut off",
    "length/empty": "empty",
    "idle/learner": "learner",
    "idle/rollout": "engines",
    "publish/gap_mean": "mean",
    "publish/gap_max": "largest",
}
UNITS: tuple[tuple[str, str], ...] = (  # pattern of a name without eval/, before/, max/ and critic/ -> unit, first wins
    (r".*_per_second|tokens/per_second", "tokens/s"),
    (r"time/.*|publish/(fetch|pause|load|commit|verify|resume|seconds)|(.*/)?(seconds|latency)|.*_s", "s"),
    (r".*_mb", "MB"),
    (r"audit/share|audit/(exploit|recent|unbacked|blind_spot|missing)/.*", "share"),
    (r"audit/(first_appearance|domination)/.*", "steps"),
    (r"audit/samples", "samples"),
    (r"audit/grade/.*", "grade"),
    (r"publish/bytes", "bytes"),
    (
        r"length/(truncated|empty)|missing/.*|share(/.*)?|groups/(equal|fill)|(idle|unused)/.*|.*zero_variance.*",
        "share",
    ),
    (r"reward/(unscored|overlong)|.*(accuracy|agreement)(/.*)?|clip_(low|high)|mismatch_cut", "share"),
    (r"advantage/(flat_groups|invalid_rows|few_holders)|.*/(unscored|hit_rate|failures|disagreement|yield)", "share"),
    (r"(.*/)?(solve_all|solve_none|informative|lucky|.*recovered)(/.*)?|gradient_weight.*", "share"),
    (r"length/.*|tokens/.*|(.*/)?tokens|.*tokens_(kept|discarded)|.*/length(/.*)?", "tokens"),
    (r"(publish/gap|sampler_gap|approx_kl|ref_kl|nll|entropy|logprob|displacement|distill/(student|log)).*", "nat"),
    (r"(target_|ref_)?margin(/.*)?|distill/implicit_reward.*|advantage/kl_penalty", "nat"),
    (r"rewards/.*", "implicit reward"),
    (r"loss(/.*)?", "loss"),
    (r"grad_norm", "norm"),
    (r"lr", "rate"),
    (r"ratio|mismatch_weight|learner/rank_balance", "ratio"),
    (r"advantage/abs|distill/advantage", "advantage"),
    (r"(.*/)?score|best|reward/.*|advantage/score|episode/return|select/std_.*", "score"),
    (r"async/(staleness|token_age).*", "policy versions"),
    (r"async/.*|groups/(dropped|sampled|surplus)|select/groups_.*", "groups"),
    (r"groups/rounds", "rounds"),
    (r"select/trajectories_.*", "samples"),
    (r"restarts/.*", "restarts"),
    (r"workers/.*", "workers"),
    (r"prompts", "prompts"),
    (r"learner/rows", "rows"),
    (r"learner/micro_batches", "micro-batches"),
    (r"learner/optimizer_step", "optimizer steps"),
    (r"reward_pool/.*/(items|missing.*)", "items"),
    (r"reward_pool/.*/rpcs", "calls"),
    (r"reward_pool/.*/children", "processes"),
)
PREFIX = re.compile(r"^(?:(?:eval|before|max|critic)/)+")
RULES = tuple((re.compile(pattern), unit) for pattern, unit in UNITS)
PERCENT = ("share", "score")  # units whose values are written in percent while they lie between 0 and 1


def unit(metric: str) -> str:
    """The unit of a metric; empty where nobody knows: such a metric shares a plot with no other."""
    name = PREFIX.sub("", metric)
    return next((unit for pattern, unit in RULES if pattern.fullmatch(name)), "")


def title(metric: str) -> str:
    """What a person calls a metric."""
    family, _, last = metric.rpartition("/")
    if last == "score" and family and family not in NO_SETS and metric not in WORDS:
        return f"score of {family}"
    return WORDS.get(metric, metric)


def label(metric: str) -> str:
    """What a person calls a metric among others of its family."""
    known = SHORT.get(PREFIX.sub("", metric)) or WORDS.get(metric)
    return known or metric.rpartition("/")[2].replace("_", " ")


def written(metric: str, value: float) -> str:
    """A value of a metric for a person."""
    return f"{value:.1%}" if unit(metric) in PERCENT and 0 <= value <= 1 else f"{value:.3g}"


def before_of(metric: str) -> str:
    """The name under which a stage that evaluates itself logs a metric before its first step; empty where none does."""
    return f"before/{metric.removeprefix('eval/')}" if metric.startswith("eval/") else ""
