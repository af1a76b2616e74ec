"""``raylign k8s render``: the manifests of a run for KubeRay, sized by its own plan."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from raylign.cli.options import add_overrides, new_command, say, warn
from raylign.cli.submit import environment_of
from raylign.config.schema import Config
from raylign.errors import ConfigError, Problem
from raylign.jobs.package import relative_files
from raylign.jobs.submission import check_for_cluster
from raylign.kuberay.manifests import MODES, Deployment, Manifest, ray_cluster, ray_job, volume_claim
from raylign.kuberay.pods import NodeShape, PodGroup, pod_groups
from raylign.plan import Plan, make_plan

SECRET = re.compile(r"TOKEN|KEY|SECRET|PASS(WORD|WD|PHRASE)?$|CREDENTIAL|AUTH", re.IGNORECASE)  # in a variable's name
NODE_START_S = 1800  # a cloud takes up to half an hour for a machine with GPUs
EPILOG = """\
examples:
  raylign k8s render --image registry/raylign:gpu recipe=grpo scale=node model.path=... run.dir=/runs/a --to job.yaml
  kubectl apply -f job.yaml                          the RayJob: a cluster of its own, deleted when the run is over
  raylign k8s render --kind RayCluster ...           a cluster that stays, for raylign submit
  raylign k8s render --queue research --node-gpus 8 --node-cpus 96 ...     for Kueue, on machines of 8 GPUs

  raylign k8s render --env-secret HF_TOKEN=huggingface/token --sandbox recipe=... a Secret's key; programs are judged

The code is the image's. The run folder lies on the claim, so that a retry, on a new cluster, continues the run.
"""


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = new_command(commands, "k8s", "make KubeRay manifests from the plan of a run", EPILOG)
    parser.add_argument("action", choices=["render"], help="print the manifests")
    add_overrides(parser)
    parser.add_argument("--image", default="raylign:gpu", help="the image of all pods (docker/Dockerfile)")
    parser.add_argument("--kind", choices=["RayJob", "RayCluster"], default="RayJob")
    parser.add_argument("--name", default="", help="of the resource (default: from recipe, scale and seed)")
    parser.add_argument("--claim", default="raylign-runs", metavar="PVC", help="claim that holds the run folders")
    parser.add_argument("--claim-gb", type=int, default=0, metavar="GB", help="make the claim, of this size")
    parser.add_argument("--mount", default="/runs", metavar="DIR", help="where the claim is mounted")
    parser.add_argument("--queue", default="", help="Kueue's local queue")
    parser.add_argument("--mode", default=MODES[0], choices=MODES, help="how the operator submits the job")
    parser.add_argument("--retries", type=int, default=3, help="new clusters before the job counts as failed")
    parser.add_argument("--deadline", type=int, default=0, metavar="S", help="of the whole job (default: none)")
    parser.add_argument("--node-cpus", type=int, default=32, metavar="N", help="CPUs of the largest pod")
    parser.add_argument("--node-gpus", type=int, default=8, metavar="N", help="GPUs of the largest pod")
    parser.add_argument("--node-memory", type=int, default=0, metavar="GB", help="of a pod (default: estimated)")
    parser.add_argument("--autoscale", type=int, nargs=2, metavar=("MIN", "MAX"), help="pods of every worker group")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="a variable for the job")
    parser.add_argument(
        "--env-secret", action="append", default=[], metavar="NAME=SECRET/KEY", help="a variable from a Secret"
    )
    parser.add_argument(
        "--sandbox", action="store_true", help="pods that can run programs in a sandbox: root of a user namespace"
    )
    parser.add_argument("--to", default="", metavar="FILE", help="write there instead of to the screen")
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> int:
    """Print or write the manifests. Raises ConfigError or PlanError."""
    checked = check_for_cluster(parsed.overrides, parsed.config_dir)
    config = checked.run.config
    problems = _not_in_the_image(checked.run.tree, parsed.config_dir)
    if not Path(config.run.dir).is_relative_to(parsed.mount):
        fix = f"run.dir={parsed.mount}/NAME, or --mount {config.run.dir}"
        why = f"is not on the claim, which is mounted at {parsed.mount}: a retry would begin anew"
        problems.append(Problem(key="run.dir", value=config.run.dir, why=why, fix=fix))
    if problems:
        raise ConfigError(problems)
    plan = make_plan(checked.run)
    shape = NodeShape(cpus=parsed.node_cpus, gpus=parsed.node_gpus, memory_gb=parsed.node_memory)
    groups = pod_groups(plan, shape)
    deployment = Deployment(
        name=parsed.name
        or re.sub(r"[^a-z0-9]+", "-", f"{config.recipe}-{config.scale}-seed{config.seed}".lower())[:47],
        image=parsed.image,
        claim=parsed.claim,
        mount=parsed.mount,
        claim_gb=parsed.claim_gb,
        queue=parsed.queue,
        mode=parsed.mode,
        retries=parsed.retries,
        deadline_s=parsed.deadline,
        workers=tuple(parsed.autoscale) if parsed.autoscale else None,
        environment=environment_of(parsed.env),
        secrets=secrets_of(parsed.env_secret),
        sandbox=parsed.sandbox,
    )
    for name in filter(SECRET.search, deployment.environment):
        warn(f"--env {name}: its value stands in the manifest in plain text; fix: --env-secret {name}=SECRET/KEY")
    manifests: list[Manifest] = [volume_claim(deployment)] if parsed.claim_gb else []
    if parsed.kind == "RayJob":
        manifests.append(ray_job(deployment, groups, [*checked.overrides, *_patience(config, parsed.autoscale)]))
    else:
        manifests.append(ray_cluster(deployment, groups))
    text = f"{_header(plan, groups)}{yaml.safe_dump_all(manifests, sort_keys=False, width=120)}"
    if parsed.to:
        Path(parsed.to).write_text(text)
        say(f"{parsed.to}: kubectl apply -f {parsed.to}")
    else:
        say(text.rstrip())
    return 0


def secrets_of(words: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Of ``NAME=SECRET/KEY``: variable -> (Secret, key). Raises ConfigError for anything else."""
    pairs, problems = {}, []
    for word in words:
        match = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*)=([a-z0-9]([-a-z0-9.]*[a-z0-9])?)/([-._a-zA-Z0-9]+)", word)
        if match is None:
            fix = "--env-secret HF_TOKEN=huggingface/token"
            problems.append(Problem(key="--env-secret", value=word, why="is not NAME=SECRET/KEY", fix=fix))
        else:
            pairs[match[1]] = (match[2], match[4])
    if problems:
        raise ConfigError(problems)
    return pairs


def _patience(config: Config, autoscale: bool) -> list[str]:
    """A cluster that grows has no node yet when the run asks for them."""
    if not autoscale:
        return []
    patient = config.cluster.ready_timeout_s >= NODE_START_S
    return ["cluster.autoscale=true", *([] if patient else [f"cluster.ready_timeout_s={NODE_START_S}"])]


def _not_in_the_image(tree: Mapping[str, Any], config_dir: str) -> list[Problem]:
    """Nothing travels with a manifest: what a setting names must be on the claim, in the image or on the Hub."""
    files, _ = relative_files(tree, Path.cwd())
    problems = [
        Problem(
            key="file",
            value=name,
            why="a relative path means a file of this machine; a manifest carries none",
            fix="copy it to the claim and write its absolute path",
        )
        for name in files
    ]
    if config_dir:
        why, fix = "a manifest carries no folder", "build it into the image, or write its settings as key=value"
        problems.append(Problem(key="--config-dir", value=config_dir, why=why, fix=fix))
    return problems


def _header(plan: Plan, groups: list[PodGroup]) -> str:
    lines = [f"# plan: {plan.cpus:g} CPU, {plan.gpus:g} GPU in {len(plan.bundles)} bundles, {plan.strategy}"]
    lines += [
        f"# {group.name}: {group.pods} x ({group.cpus} CPU, {group.gpus} GPU, {group.memory_gb} GB)" for group in groups
    ]
    return "\n".join(lines) + "\n"
