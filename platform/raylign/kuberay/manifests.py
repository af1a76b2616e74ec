"""RayJob and RayCluster manifests (``ray.io/v1``), as plain mappings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
import yaml

from raylign.errors import ConfigError, Problem
from raylign.kuberay.pods import PodGroup

API = "ray.io/v1"
USER = 1000  # `ray` in docker/Dockerfile
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")  # what a sandbox needs of root's
MODES = ("K8sJobMode", "SidecarMode", "HTTPMode")
SHM_SHARE = 0.3  # of a pod's memory: what Ray gives its object store
Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Settings of a run on Kubernetes that are not part of its plan.

    Example: ``Deployment(name="grpo", image="raylign:gpu", claim="runs", queue="research")``
    """

    name: str
    image: str
    claim: str  # PersistentVolumeClaim (ReadWriteMany) with the run folders
    mount: str = "/runs"
    claim_gb: int = 0  # above 0: the claim is part of the manifests
    queue: str = ""  # Kueue's local queue
    mode: str = "K8sJobMode"
    retries: int = 3  # each on a new cluster; the run goes on from its newest checkpoint
    deadline_s: int = 0  # of the whole job; 0: none
    stop_wait_s: int = 120
    keep_s: int = 600  # the cluster stays so long after the end, for a look at its logs
    head_cpus: int = 4
    head_memory_gb: int = 16
    workers: tuple[int, int] | None = None  # autoscaling: least and most pods of every group
    environment: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, tuple[str, str]] = field(default_factory=dict)  # variable -> (Secret, key in it)
    sandbox: bool = False  # root of a user namespace, so that programs can be given user ids of their own

    def __post_init__(self) -> None:
        problems = []
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", self.name):
            why = "is no name that Kubernetes takes (lower case, digits, dashes, at most 47)"
            problems.append(Problem(key="--name", value=self.name, why=why, fix="--name my-run"))
        if self.mode not in MODES:
            problems.append(Problem(key="--mode", value=self.mode, why="is no mode", fix=f"one of {', '.join(MODES)}"))
        if self.workers is not None and not 0 <= self.workers[0] <= self.workers[1]:
            why = "least and most pods are the wrong way round"
            problems.append(Problem(key="--autoscale", value=str(self.workers), why=why, fix="--autoscale 0 4"))
        if problems:
            raise ConfigError(problems)


def ray_job(deployment: Deployment, groups: Sequence[PodGroup], overrides: Sequence[str]) -> Manifest:
    """The RayJob of a run. Raises ConfigError when the autoscaler may not start as many pods as the plan needs."""
    words = ["python", "-m", "raylign.cli", "train", *overrides]
    environment = {"RAY_JOB_STOP_WAIT_TIME_S": str(deployment.stop_wait_s), **deployment.environment}
    spec: Manifest = {
        "entrypoint": f"exec {shlex.join(words)}",
        "submissionMode": deployment.mode,
        "runtimeEnvYAML": yaml.safe_dump({"env_vars": environment}, sort_keys=False),
        "backoffLimit": deployment.retries,
        "shutdownAfterJobFinishes": True,  # Kueue asks for it, and GPUs that are done should not be held
        "ttlSecondsAfterFinished": deployment.keep_s,
        "rayClusterSpec": cluster_spec(deployment, groups),
    }
    if deployment.deadline_s:
        spec["activeDeadlineSeconds"] = deployment.deadline_s
    return {"apiVersion": API, "kind": "RayJob", "metadata": _metadata(deployment), "spec": spec}


def ray_cluster(deployment: Deployment, groups: Sequence[PodGroup]) -> Manifest:
    """A RayCluster that stays, for `raylign submit`."""
    return {
        "apiVersion": API,
        "kind": "RayCluster",
        "metadata": _metadata(deployment),
        "spec": cluster_spec(deployment, groups),
    }


def volume_claim(deployment: Deployment) -> Manifest:
    """The claim that holds the run folders: written by all pods, and there after every retry."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": deployment.claim},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": f"{deployment.claim_gb}Gi"}},
        },
    }


def cluster_spec(deployment: Deployment, groups: Sequence[PodGroup]) -> Manifest:
    """Head and worker groups. The head runs the driver and no actor, so that no engine can starve it."""
    head = PodGroup(name="head", pods=1, cpus=deployment.head_cpus, gpus=0, memory_gb=deployment.head_memory_gb)
    spec: Manifest = {
        "rayVersion": ray.__version__,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0", "metrics-export-port": "8080"},
            "template": _template(deployment, head, "ray-head"),
        },
        "workerGroupSpecs": [_workers(deployment, group) for group in groups],
    }
    if deployment.workers is not None:
        spec["enableInTreeAutoscaling"] = True
        spec["autoscalerOptions"] = {
            "version": "v2",
            "idleTimeoutSeconds": 120,
            "upscalingMode": "Default",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    return spec


def _workers(deployment: Deployment, group: PodGroup) -> Manifest:
    least, most = deployment.workers or (group.pods, group.pods)  # without the autoscaler: all at once or none
    if most < group.pods:
        why = f"the plan needs {group.pods} pods of the group {group.name}"
        fix = f"--autoscale {least} {group.pods}"
        raise ConfigError([Problem(key="--autoscale", value=f"{least} {most}", why=why, fix=fix)])
    return {
        "groupName": group.name,
        "replicas": group.pods if deployment.workers is None else least,
        "minReplicas": least,
        "maxReplicas": most,
        "labels": {"raylign/group": group.name},
        "rayStartParams": {"num-cpus": str(group.cpus), "metrics-export-port": "8080"},
        "template": _template(deployment, group, "ray-worker"),
    }


def _template(deployment: Deployment, group: PodGroup, container: str) -> Manifest:
    shm_gb = max(1, round(group.memory_gb * SHM_SHARE))
    resources: dict[str, Any] = {"cpu": str(group.cpus), "memory": f"{group.memory_gb + shm_gb}Gi"}
    if group.gpus:
        resources["nvidia.com/gpu"] = str(group.gpus)
    ports = [{"name": "metrics", "containerPort": 8080}]
    if container == "ray-head":
        numbers = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}
        ports += [{"name": name, "containerPort": number} for name, number in numbers.items()]
    main = {
        "name": container,
        "image": deployment.image,
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "ports": ports,
        "env": [{"name": "HF_HOME", "value": f"{deployment.mount}/.huggingface"}, *_secrets(deployment)],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], **({"add": list(CAPABILITIES)} if deployment.sandbox else {})},
        },
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "runs", "mountPath": deployment.mount},
        ],
    }
    return {
        "spec": {
            **({"restartPolicy": "Never"} if deployment.mode == "SidecarMode" and container == "ray-head" else {}),
            "terminationGracePeriodSeconds": deployment.stop_wait_s,
            **({"hostUsers": False} if deployment.sandbox else {}),
            # Only the autoscaler, beside the head, talks to Kubernetes.
            "automountServiceAccountToken": container == "ray-head" and deployment.workers is not None,
            "securityContext": {
                "runAsNonRoot": not deployment.sandbox,
                "runAsUser": 0 if deployment.sandbox else USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [main],
            "volumes": [
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{shm_gb}Gi"}},
                {"name": "runs", "persistentVolumeClaim": {"claimName": deployment.claim}},
            ],
        }
    }


def _secrets(deployment: Deployment) -> list[Manifest]:
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for name, (secret, key) in deployment.secrets.items()
    ]


def _metadata(deployment: Deployment) -> Manifest:
    labels = {"app.kubernetes.io/part-of": "raylign"}
    if deployment.queue:
        labels["kueue.x-k8s.io/queue-name"] = deployment.queue
    return {"name": deployment.name, "labels": labels}
