"""A built Bento, served where neither the package nor its sources are."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import bentoml
import httpx2

from tests.bad_requests import BATCH, CUSTOMER, PREDICT, PREDICT_V1
from tests.e2e.conftest import BENTOML, PROJECT, serving

if TYPE_CHECKING:
    import pytest

    from churn_serving.artifact import Artifact


def test_a_built_bento_serves_without_the_package(
    bento_model: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = subprocess.run(
        [BENTOML, "build", "--output", "tag", str(PROJECT)],
        capture_output=True,
        text=True,
        check=True,
    )
    tag = build.stdout.strip().rpartition("__tag__:")[2]
    bento = bentoml.get(tag)
    assert [str(model.tag) for model in bento.info.all_models] == [bento_model.tag]
    assert not {"dataset.py", "training.py"} & {path.name for path in Path(bento.path).rglob("*")}

    # A newer model must not change what this Bento serves.
    newer = bentoml.models.get(bento_model.tag)
    with bentoml.models.create("churn_classifier", metadata=dict(newer.info.metadata)):
        pass

    # The base interpreter sees the dependencies as plain folders, so the editable install of this
    # project is not among them.
    interpreter = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    monkeypatch.setenv("PYTHONPATH", sysconfig.get_path("purelib"))
    absent = subprocess.run(
        [interpreter, "-c", "import churn_serving"], cwd=tmp_path, check=False, capture_output=True
    )
    assert absent.returncode != 0

    command = (str(interpreter), "-m", "bentoml")
    with (
        serving(tag, tmp_path / "log", command=command, cwd=tmp_path) as server,
        httpx2.Client(base_url=server.url) as client,
    ):
        assert client.post(PREDICT, json=CUSTOMER).json()["model_tag"] == bento_model.tag
        assert client.post(PREDICT_V1, json=CUSTOMER).status_code == 200
        assert client.post(BATCH, json={"items": [CUSTOMER] * 3}).json()["batch_size"] == 3
        assert client.post(PREDICT, json={}).status_code == 422
        assert client.get("/docs").status_code == 200
