"""Manifests against KubeRay's API (schema.json, strict), and against the plan that they are made from."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from raylign.cli import main
from raylign.config.compose import compose
from raylign.errors import ConfigError, PlanError
from raylign.kuberay.manifests import CAPABILITIES
from raylign.kuberay.pods import NodeShape, pod_groups
from raylign.plan import Plan, Role, make_plan

SCHEMA = json.loads((Path(__file__).parent / "schema.json").read_text())
BASE = ["recipe=grpo", "run.dir=/runs/a", "data.task=basic_arithmetic", "data.size=4096", "model.tiny.context=8192"]


def render(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["k8s", "render", *arguments]) == 0
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    for document in documents:
        jsonschema.Draft202012Validator(SCHEMA).validate(document)
    return documents


@pytest.mark.parametrize("scale", ["tiny", "gpu", "node", "cluster"])
@pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])
def test_every_scale_fits_the_api(capsys: pytest.CaptureFixture[str], scale: str, kind: str) -> None:
    (manifest,) = render(capsys, *BASE, f"scale={scale}", "--kind", kind)
    spec = manifest["spec"]["rayClusterSpec"] if kind == "RayJob" else manifest["spec"]
    plan = make_plan(compose([*BASE, f"scale={scale}"]))
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    nodes = []
    for group in groups.values():
        resources = group["template"]["spec"]["containers"][0]["resources"]
        assert resources["limits"] == resources["requests"]
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"], "all pods at once, or none"
        node = {"CPU": float(resources["limits"]["cpu"]), "GPU": float(resources["limits"].get("nvidia.com/gpu", 0))}
        nodes += [node] * group["replicas"]
    assert plan.check(nodes), "the run is placed on exactly these pods"
    assert ("gpu" in groups) == bool(plan.gpus)
    assert spec["rayVersion"] == ray.__version__ and spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_a_job_that_is_retried_resumes(capsys: pytest.CaptureFixture[str]) -> None:
    claim, job = render(
        capsys, *BASE, "scale=node", "seed=3", "--claim-gb", "100", "--retries", "5", "--deadline", "99"
    )
    spec = job["spec"]
    assert spec["backoffLimit"] == 5 and spec["activeDeadlineSeconds"] == 99 and spec["shutdownAfterJobFinishes"]
    assert "run.dir=/runs/a" in spec["entrypoint"] and "cluster.address=auto" in spec["entrypoint"]
    assert int(yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) >= 60
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    cluster = spec["rayClusterSpec"]
    for template in (cluster["headGroupSpec"]["template"], *(g["template"] for g in cluster["workerGroupSpecs"])):
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in template["spec"]["containers"][0]["volumeMounts"]}
        assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory" and mounts == {"shm": "/dev/shm", "runs": "/runs"}
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        assert template["spec"]["terminationGracePeriodSeconds"] >= 60


def test_options(capsys: pytest.CaptureFixture[str]) -> None:
    (job,) = render(
        capsys, *BASE, "scale=node", "--queue", "research", "--image", "reg/raylign:x", "--mode", "SidecarMode",
        "--autoscale", "0", "4", "--name", "mine", "--env", "HF_HOME=/runs/hf",
    )  # fmt: skip
    cluster = job["spec"]["rayClusterSpec"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research" and job["metadata"]["name"] == "mine"
    assert cluster["enableInTreeAutoscaling"] is True and cluster["autoscalerOptions"]["version"] == "v2"
    assert [(g["minReplicas"], g["maxReplicas"]) for g in cluster["workerGroupSpecs"]] == [(0, 4), (0, 4)]
    assert "cluster.autoscale=true" in job["spec"]["entrypoint"], "a plan is not refused because no node is up yet"
    pod = cluster["headGroupSpec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never" and pod["containers"][0]["image"] == "reg/raylign:x"
    assert "HF_HOME: /runs/hf" in job["spec"]["runtimeEnvYAML"]


def pods_of(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


@pytest.mark.parametrize("autoscale", [(), ("--autoscale", "0", "4")])
def test_a_pod_has_no_more_rights_than_it_needs(capsys: pytest.CaptureFixture[str], autoscale: tuple[str, ...]) -> None:
    (job,) = render(capsys, *BASE, "scale=node", *autoscale)
    for number, pod in enumerate(pods_of(job)):
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["securityContext"]["runAsNonRoot"] is True and "hostUsers" not in pod
        token = bool(autoscale) and number == 0  # the autoscaler, in the head's pod, asks Kubernetes for pods
        assert pod["automountServiceAccountToken"] is token
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
    if autoscale:
        options = job["spec"]["rayClusterSpec"]["autoscalerOptions"]
        assert options["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_pods_of_a_sandbox_are_root_of_a_user_namespace_alone(capsys: pytest.CaptureFixture[str]) -> None:
    (job,) = render(capsys, *BASE, "scale=node", "--sandbox")
    for pod in pods_of(job):
        assert pod["hostUsers"] is False and pod["securityContext"]["runAsUser"] == 0
        rights = pod["containers"][0]["securityContext"]
        assert rights["capabilities"] == {"drop": ["ALL"], "add": list(CAPABILITIES)}
        assert rights["allowPrivilegeEscalation"] is False and "SYS_ADMIN" not in CAPABILITIES


def test_secrets_are_references(capsys: pytest.CaptureFixture[str]) -> None:
    (job,) = render(capsys, *BASE, "scale=node", "--env-secret", "HF_TOKEN=huggingface/token.v1")
    wanted = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "huggingface", "key": "token.v1"}}}
    assert all(wanted in pod["containers"][0]["env"] for pod in pods_of(job))
    for word in ("HF_TOKEN", "HF_TOKEN=a", "HF_TOKEN=/a", "HF_TOKEN=a/", "=a/b", "HF-TOKEN=a/b", "HF_TOKEN=a/b/c"):
        assert main(["k8s", "render", *BASE, "scale=node", "--env-secret", word]) == 2
        assert "--env-secret" in capsys.readouterr().err
    for name in ("HF_TOKEN", "WANDB_API_KEY", "aws_secret_access_id", "DB_PASSWORD", "DB_PASS"):
        assert main(["k8s", "render", *BASE, "scale=gpu", "--env", f"{name}=x"]) == 0
        err = capsys.readouterr().err
        assert "plain text" in err and f"--env-secret {name}=" in err
    assert main(["k8s", "render", *BASE, "scale=gpu", "--env", "HF_HOME=/runs/hf", "--env", "BYPASS_X=1"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "path",
    [("spec",), ("spec", "rayClusterSpec"), ("spec", "rayClusterSpec", "headGroupSpec"), ("metadata",),
     ("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers", 0)],
)  # fmt: skip
def test_an_unknown_field_fails(capsys: pytest.CaptureFixture[str], path: tuple[Any, ...]) -> None:
    (job,) = render(capsys, *BASE, "scale=gpu")
    broken = copy.deepcopy(job)
    place: Any = broken
    for step in path:
        place = place[step]
    place["backofLimit"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(broken)


def test_what_cannot_be_rendered(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any) -> None:
    assert main(["k8s", "render", "recipe=grpo", "run.dir=/elsewhere/a", "learner.optim.lr=-1"]) == 2
    assert "learner.optim.lr = -1" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1", "answer": "2"}\n')
    assert main(["k8s", "render", "recipe=grpo", "scale=tiny", "run.dir=/elsewhere/a", "data.path=rows.jsonl"]) == 2
    err = capsys.readouterr().err
    assert "is not on the claim" in err and "rows.jsonl" in err, "all problems at once"
    assert main(["k8s", "render", *BASE, "--name", "Not_A_Name"]) == 2
    assert main(["k8s", "render", *BASE, "scale=node", "--autoscale", "0", "0"]) == 2
    assert "needs 1 pods of the group gpu" in capsys.readouterr().err


def plan_of(gpus: float, actors: int, strategy: str = "PACK") -> Plan:
    roles = (
        Role(name="learner", actors=actors, cpus=4, gpus=gpus, memory_gb=20),
        Role(name="reward/a", actors=6, cpus=0.5, gpus=0),
    )
    return Plan(roles=roles, strategy=strategy)


def test_pods_are_as_few_and_as_small_as_the_plan_allows() -> None:
    gpu, cpu = pod_groups(plan_of(1, 12), NodeShape(cpus=64, gpus=8))
    assert (gpu.pods, gpu.gpus, gpu.cpus) == (2, 6, 24), "12 GPUs on machines of 8: two pods of 6, none idle"
    assert (cpu.pods, cpu.gpus, cpu.cpus) == (1, 0, 3)
    assert gpu.memory_gb >= 6 * 20
    (tight, _) = pod_groups(plan_of(1, 12), NodeShape(cpus=16, gpus=8))
    assert (tight.pods, tight.gpus) == (3, 4), "CPUs bind: four ranks of four CPUs on a machine"
    (spread, _) = pod_groups(plan_of(0.5, 3, "STRICT_SPREAD"), NodeShape())
    assert (spread.pods, spread.gpus) == (3, 1)


def test_a_bundle_larger_than_a_machine_is_refused() -> None:
    with pytest.raises(PlanError, match="--node-cpus"):
        pod_groups(plan_of(1, 2), NodeShape(cpus=2, gpus=8))
    with pytest.raises(PlanError, match="STRICT_PACK"):
        pod_groups(plan_of(1, 12, "STRICT_PACK"), NodeShape(cpus=64, gpus=8))


def test_config_errors_are_config_errors() -> None:
    from raylign.kuberay.manifests import Deployment

    with pytest.raises(ConfigError):
        Deployment(name="x", image="i", claim="c", workers=(3, 1))
