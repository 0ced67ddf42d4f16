"""What deploys, under the tools of those who run it: the chart through Helm and Kubernetes' schemas, compose files
through Compose's schema, the Dockerfile through hadolint, units through systemd. No cluster and no container engine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml  # type: ignore[import-untyped]

from console import least_rights, profiles
from tests.builders import image_files
from tests.builders.deployments import (
    CHART,
    DOCKER,
    SYSTEMD,
    UNUSED,
    WANTED,
    Deployed,
    of_chart,
    parsed_by_the_program,
    pods,
    settings_of,
)
from tests.integration.conftest import need
from tests.integration.tools import KUBERNETES, Tools, missing_for_tools

ROOT = image_files.ROOT
SERVERS = ("redis.host=valkey.example", "kafka.servers=kafka.example:9093")
LOCATED = (*SERVERS, "archive.location=s3://bank/archive")
VARIANTS: dict[str, tuple[str, ...]] = {
    "least": SERVERS,
    "archive": LOCATED,
    "all": (
        *SERVERS,
        *("archive.location=/var/lib/archive", "archive.claim=archive", "state.claim=kept", "redis.cluster=true"),
        *("worker.autoscaling.enabled=true", "worker.nodeSelector.disk=ssd", "image.digest=sha256:" + "a" * 64),
        *("console.ingress.enabled=true", "console.ingress.host=fraud.example", "console.ingress.tlsSecret=fraud"),
        *("imagePullSecrets[0].name=registry", "extraEnv[0].name=AWS_REGION", "extraEnv[0].value=eu-central-1"),
    ),
    "without tokens": (*LOCATED, "environment=staging", "state.oneNode=false", "state.accessModes[0]=ReadWriteMany"),
    "operators": (
        *LOCATED,
        *("worker.autoscaling.enabled=true", "worker.autoscaling.source=keda", "podMonitor.enabled=true"),
    ),
    "no policies": (*LOCATED, "networkPolicy.enabled=false", "ca.configMap=", "archive.trim=false"),
}
"""Values that are set, beside the defaults."""
OF_OTHERS = {"ScaledObject", "PodMonitor"}
"""Kinds that operators define; Kubernetes has no schema of them."""


@pytest.fixture(scope="module")
def tools() -> Tools:
    """The tools, downloaded at the first use."""
    need(missing_for_tools())
    return Tools()


def helm(tools: Tools, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(tools.helm), *arguments], capture_output=True, text=True, timeout=120, check=False)


def rendered(tools: Tools, *values: str, release: str = "bank") -> list[dict[str, Any]]:
    """The objects of a release with these values."""
    options = [option for value in values for option in ("--set", value)]
    done = helm(tools, "template", release, str(CHART), *options)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@pytest.fixture(scope="module")
def releases(tools: Tools) -> dict[str, list[dict[str, Any]]]:
    """Each variant, rendered."""
    return {name: rendered(tools, *values) for name, values in VARIANTS.items()}


def named(manifests: list[dict[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
    return (each for each in manifests if each["kind"] == kind)


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_finds_nothing_in_the_chart(tools: Tools, variant: str) -> None:
    """Warnings count as errors."""
    options = [option for value in VARIANTS[variant] for option in ("--set", value)]
    done = helm(tools, "lint", "--strict", str(CHART), *options)
    assert done.returncode == 0 and "1 chart(s) linted, 0 chart(s) failed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_is_of_kubernetes_schema(
    tools: Tools, releases: dict[str, list[dict[str, Any]]], variant: str, kubernetes: str
) -> None:
    """Strictly: a field that the kind does not have is an error. Names are unique, and short enough for a label."""
    manifests = releases[variant]
    for each in manifests:
        if each["kind"] not in OF_OTHERS:
            schema = tools.kubernetes_schema(kubernetes, each["apiVersion"], each["kind"])
            jsonschema_rs.validate(schema, each)
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len({*names}) == len(names) > 10 and all(len(name) <= 52 for _, name in names)


def test_a_field_that_kubernetes_does_not_have_is_noticed(
    tools: Tools, releases: dict[str, list[dict[str, Any]]]
) -> None:
    """The test above can fail."""
    (worker,) = named(releases["least"], "StatefulSet")
    wrong = json.loads(json.dumps(worker).replace('"livenessProbe"', '"livelinessProbe"'))
    schema = tools.kubernetes_schema(KUBERNETES[-1], "apps/v1", "StatefulSet")
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, wrong)


def test_a_release_has_the_processes_of_the_code(
    releases: dict[str, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With flags that make them stay; the image's program takes every command line."""
    found = of_chart(releases["archive"])
    assert sorted(each.command for each in found) == sorted(WANTED)
    for each in found:
        assert {word for word in WANTED[each.command] if word in ("--follow", "--standby")} <= {*each.commands[-1]}
    files = image_files.laid(tmp_path_factory.mktemp("image"), image_files.copied())
    assert parsed_by_the_program(files, [line for each in found for line in each.commands]) == ""


@pytest.mark.parametrize("command", sorted(WANTED))
def test_production_has_what_it_requires_and_no_secret_more(
    releases: dict[str, list[dict[str, Any]]], command: str, tmp_path: Path
) -> None:
    """As for compose.prod.yaml and units in tests/unit/docker/test_deployments.py."""
    (service,) = (each for each in of_chart(releases["archive"]) if each.command == command)
    settings_file = next(named(releases["archive"], "ConfigMap"))["data"]["settings.toml"]
    s = settings_of(service, settings_file, tmp_path)
    unused = UNUSED[command]
    assert s.environment == "production" and [*profiles.missing(s, unused)] == []
    role = least_rights.NEEDS[command].role
    assert s.redis_username == f"sentinel-{role}" and s.archive == "s3://bank/archive"
    assert s.kafka_username == ("" if unused == profiles.LOG_ONLY else f"sentinel-{role}")
    assert bool(s.kafka_password_file) == (unused != profiles.LOG_ONLY)
    assert bool(s.vault_key_file) == (not unused)
    assert _secret(releases["archive"], service) == f"stream-sentinel-{service.name}"


def _secret(manifests: list[dict[str, Any]], service: Deployed) -> str:
    """The name of the Secret that its pod mounts."""
    for each in manifests:
        for pod in pods(each):
            if pod["containers"][0]["name"] == service.name:
                (found,) = (volume["secret"] for volume in pod["volumes"] if "secret" in volume)
                assert found["defaultMode"] == 0o440
                return str(found["secretName"])
    raise AssertionError(service.name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_pod_can_do_little_and_is_not_restarted_for_lag(
    releases: dict[str, list[dict[str, Any]]], variant: str
) -> None:
    """No root, no capability, no writable image, no token of the cluster; limits. Liveness asks whether it lives,
    readiness whether it is ready. Files that processes made keep their modes, since they check them.
    """
    found = [pod for each in releases[variant] for pod in pods(each)]
    assert len(found) >= 6
    for pod in found:
        (container,) = pod["containers"]
        security = pod["securityContext"]
        assert security["runAsNonRoot"] and security["runAsUser"] == security["fsGroup"] == 10001
        assert security["fsGroupChangePolicy"] == "OnRootMismatch"
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
        if container["name"] != "archiver":
            asked = [
                container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
            ]
            assert asked == ["/livez", "/livez", "/readyz"]


def test_workers_scale_by_lag_up_to_the_partitions(releases: dict[str, list[dict[str, Any]]]) -> None:
    """With a metric that processes export; the stateful set then has no number of its own for an upgrade to set."""
    (scaler,) = named(releases["all"], "HorizontalPodAutoscaler")
    (worker,) = named(releases["all"], "StatefulSet")
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("StatefulSet", worker["metadata"]["name"])
    assert "replicas" not in worker["spec"] and scaler["spec"]["maxReplicas"] == 12
    (metric,) = scaler["spec"]["metrics"]
    (scaled,) = named(releases["operators"], "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    from console import metrics_page

    exported = {row.name for row in metrics_page.rows()}
    assert metric["external"]["metric"]["name"] in exported
    assert any(name in trigger["metadata"]["query"] for name in exported)


def test_budgets_are_for_what_can_move(releases: dict[str, list[dict[str, Any]]]) -> None:
    """Workers on one node have none: it would hold up a drain for ever. Those on several nodes have one."""
    budgets = {
        variant: {
            each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
            for each in named(manifests, "PodDisruptionBudget")
        }
        for variant, manifests in releases.items()
    }
    assert budgets["archive"] == {"responders"} and budgets["without tokens"] == {"responders", "worker"}
    for each in of_state(releases["archive"]):
        (term,) = each["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["labelSelector"]["matchLabels"] == {"stream-sentinel/state": "bank"}
    assert not any("affinity" in each for each in of_state(releases["without tokens"]))


def of_state(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pods that use the state claim: worker and console."""
    found = [pod for each in manifests for pod in pods(each)]
    using = [pod for pod in found if any(volume["name"] == "state" for volume in pod["volumes"])]
    assert sorted(pod["containers"][0]["name"] for pod in using) == ["console", "worker"]
    return using


def test_policies_let_each_process_reach_what_it_uses(releases: dict[str, list[dict[str, Any]]]) -> None:
    """Every pod is isolated in both directions; Kafka is for those with a user on it; the console for its proxy."""
    policies = {
        each["metadata"]["name"].rpartition("sentinel")[2]: each["spec"]
        for each in named(releases["archive"], "NetworkPolicy")
    }
    whole, kafka, console = policies[""], policies["-kafka"], policies["-console"]
    assert whole["policyTypes"] == ["Ingress", "Egress"]
    pod_labels = [
        each["spec"].get("jobTemplate", each)["spec"]["template"]["metadata"]["labels"]
        for each in releases["archive"]
        if [*pods(each)]
    ]
    assert all(whole["podSelector"]["matchLabels"].items() <= labels.items() for labels in pod_labels)
    (allowed,) = kafka["podSelector"]["matchExpressions"]
    reaching = {each.name for each in of_chart(releases["archive"]) if "KAFKA_SERVERS" in each.environment}
    assert {*allowed["values"]} == reaching
    assert console["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "console"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((), "redis.host is missing"),
        (("redis.host=a",), "kafka.servers is missing"),
        ((*LOCATED, "state.oneNode=false"), "state.oneNode=false is for logs without tokens"),
        ((*SERVERS, "archive.claim=archive"), "archive.location, which is missing"),
        ((*SERVERS, "worker.autoscaling.minReplicas=13"), "minReplicas is above maxReplicas"),
        ((*SERVERS, "console.ingress.enabled=true", "console.ingress.host=a"), "console.ingress.tlsSecret is missing"),
    ],
)
def test_what_can_not_work_is_refused(tools: Tools, values: tuple[str, ...], said: str) -> None:
    """Before anything is installed, with the value to change."""
    done = helm(tools, "template", "bank", str(CHART), *(option for value in values for option in ("--set", value)))
    assert done.returncode != 0 and said in done.stderr, done.stderr


@pytest.mark.parametrize("file", ["compose.yaml", "compose.prod.yaml"])
def test_compose_files_are_of_the_specifications_schema(tools: Tools, file: str) -> None:
    """The schema that the Compose specification publishes; an unknown key is an error."""
    schema = tools.compose_schema()
    whole = yaml.safe_load((DOCKER / file).read_text())
    jsonschema_rs.validate(schema, whole)
    whole["services"]["worker"]["read-only"] = True
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, whole)


def test_hadolint_finds_nothing_in_the_dockerfile(tools: Tools, tmp_path: Path) -> None:
    """Not even a hint: what is ignored says why. A command that it warns of is found."""
    command = [str(tools.hadolint), "--failure-threshold", "style"]
    done = subprocess.run([*command, str(image_files.DOCKERFILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    worse = tmp_path / "Dockerfile"
    worse.write_text("FROM python\nRUN cd /tmp\n")
    assert subprocess.run([*command, str(worse)], capture_output=True, check=False).returncode != 0


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Every line: systemd only warns of one that it does not know."""
    need(None if shutil.which("systemd-analyze") else "systemd-analyze not installed (Debian: systemd)")
    for path in SYSTEMD.glob("sentinel*"):
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/stream-sentinel", str(ROOT)))
    units = sorted(path for path in tmp_path.iterdir() if path.suffix in (".service", ".timer", ".target"))
    names = [str(path).replace("@.", "@1.") for path in units]
    command = ["systemd-analyze", "verify", "--man=no", *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert len(names) == 9 and (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_sbom_names_every_package_of_the_image(tmp_path: Path) -> None:
    """`make sbom` writes CycloneDX with the versions and hashes of the image's lock; twice the same bytes."""
    made = ROOT / "build" / "sbom.cdx.json"
    contents = []
    for _ in range(2):
        done = subprocess.run(["make", "sbom"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        contents.append(made.read_bytes())
    assert contents[0] == contents[1]
    sbom = json.loads(contents[0])
    lock = [line.split()[0] for line in (ROOT / "requirements-image.lock").read_text().splitlines() if "==" in line]
    assert sbom["bomFormat"] == "CycloneDX"
    assert {f"{each['name']}=={each['version']}" for each in sbom["components"]} == {*lock}
    assert all(each["purl"].startswith("pkg:pypi/") for each in sbom["components"])
