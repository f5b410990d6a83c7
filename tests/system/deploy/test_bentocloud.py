"""The BentoCloud deployment is what BentoML's own loader understands, all of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import bentoml
import pytest
import yaml
from bentoml._internal.cloud import deployment as cloud
from bentoml._internal.cloud.schemas.modelschemas import DeploymentStrategy
from bentoml._internal.cloud.schemas.schemasv2 import CreateDeploymentSchema
from bentoml._internal.utils.cattr import bentoml_cattr

from churn_serving.settings import ENV_PREFIX, Settings

PROJECT: Final = Path(__file__).parents[3]
FOLDER: Final = PROJECT / "deploy" / "bentocloud"
FILE: Final = FOLDER / "deployment.yaml"
WRITTEN: Final[dict[str, Any]] = yaml.safe_load(FILE.read_text())


class Built:
    """A Bento that was built from the project's folder and pushed."""

    tag = bentoml.Tag("churn_service", "abc")
    entry_service = "ChurnService"
    envs: tuple[()] = ()

    def get_manifest(self) -> Built:
        return self


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> CreateDeploymentSchema:
    """Return what ``bentoml deploy --config-file`` would send to BentoCloud."""

    def ensure_bento(project_path: str | None = None, **_: object) -> Built:
        # A tag would be looked up in BentoCloud.
        assert project_path is not None
        assert (PROJECT / project_path / "bentofile.yaml").is_file()
        return Built()

    monkeypatch.setattr(cloud, "ensure_bento", ensure_bento)
    monkeypatch.chdir(PROJECT)
    client: Any = None  # nothing is sent
    with FILE.open() as file:
        parameters = cloud.DeploymentConfigParameters(config_file=file)
        parameters.verify(_client=client)
    schema = bentoml_cattr.structure(
        parameters.get_config_dict(_client=client), CreateDeploymentSchema
    )
    cloud.DeploymentAPI._fix_and_validate_schema(schema)
    return schema


def test_bentoml_understands_all_of_the_file(sent: CreateDeploymentSchema) -> None:
    # Its loader ignores what it does not know.
    assert bentoml_cattr.unstructure(sent) == {**WRITTEN, "bento": str(Built.tag)}


def test_the_service_is_the_one_of_the_bento(sent: CreateDeploymentSchema) -> None:
    bentofile = yaml.safe_load((PROJECT / "bentofile.yaml").read_text())
    assert list(sent.services) == [bentofile["service"].rpartition(":")[2]]


def test_the_strategy_starts_new_replicas_first(sent: CreateDeploymentSchema) -> None:
    for service in sent.services.values():
        assert service.deployment_strategy == DeploymentStrategy.RollingUpdate.value


def test_every_setting_exists_and_has_a_possible_value(
    sent: CreateDeploymentSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sent.envs
    for item in sent.envs:
        assert item.name.removeprefix(ENV_PREFIX).lower() in Settings.model_fields
        monkeypatch.setenv(item.name, item.value)
    assert Settings().workers == 1


def test_the_steps_name_this_file_and_this_deployment() -> None:
    readme = (FOLDER / "README.md").read_text()
    for path in re.findall(r"--config-file (\S+?)[`\s]", readme):
        assert PROJECT / path == FILE
    names = re.findall(r"bentoml deployment (?:get|terminate)\s+([\w-]+)", readme)
    assert set(names) == {WRITTEN["name"]}
