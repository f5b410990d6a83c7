"""A built Bento, served where neither the package nor its sources are."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import bentoml
import httpx2
import psutil
import pytest

from churn_serving.learning.registration import save_artifact
from churn_serving.model.aliases import ALIASES, promote
from churn_serving.model.artifact import models_folder
from churn_serving.revision import git_commit
from deploy import bento as tool
from tests.bad_requests import BATCH, CUSTOMER, PREDICT, PREDICT_V1
from tests.system.conftest import BENTOML, PROJECT, serving

if TYPE_CHECKING:
    from churn_serving.model.artifact import Artifact


def build() -> bentoml.Bento:
    """Build the Bento."""
    done = subprocess.run(
        [BENTOML, "build", "--output", "tag", str(PROJECT)],
        capture_output=True,
        text=True,
        check=True,
    )
    return bentoml.get(done.stdout.strip().rpartition("__tag__:")[2])


def content(bento: bentoml.Bento) -> dict[str, str]:
    """Return the checksum of each of its files."""
    root = Path(bento.path)
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.usefixtures("bento_model")
def test_the_same_sources_and_model_make_the_same_bento() -> None:
    one, other = content(build()), content(build())
    # The version and the time of its making are in there.
    assert one.pop("bento.yaml") != other.pop("bento.yaml")
    assert one == other
    assert "src/service.py" in one
    # What is lying about in the project's folder does not get in.
    assert {path.split("/")[1] for path in one if path.startswith("src/")} == {
        *("README.md", "bentofile.yaml", "churn_serving", "requirements", "service.py")
    }


def test_a_built_bento_serves_without_the_package(
    bento_model: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bento = build()
    tag = str(bento.tag)
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
        assert client.get("/").status_code == 200
        assert client.get("/web/main.js").status_code == 200


@pytest.mark.usefixtures("bento_model")
def test_the_bento_of_a_model_that_is_named_holds_and_serves_that_one(
    models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "1234567890" * 4 + "-dirty"
    monkeypatch.setattr(tool, "git_commit", lambda: commit)
    # Another name than the default one, of which there is a newer model.
    monkeypatch.setenv("CHURN_MODEL_TAG", models["logistic"])
    # A proxy that leads nowhere must not stand between the tool and what it starts.
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    written = tmp_path / "build" / "tag"
    # It tries the Bento in a store that holds no other model than the Bento's.
    assert tool.main(["--write-tag", str(written)]) == 0
    bento = bentoml.get(written.read_text().strip())
    # Where there is no checkout, the service reads the label.
    assert bento.info.labels["git_commit"] == git_commit(Path(bento.path)) == commit
    assert [str(model.tag) for model in bento.info.all_models] == [models["logistic"]]


def test_the_bento_holds_the_champion_by_its_version(models: dict[str, str]) -> None:
    name = models["logistic"].partition(":")[0]
    newer = save_artifact(
        estimator=bentoml.sklearn.load_model(models["logistic"]),
        threshold=0.5,
        measured={},
        name=name,
    )
    held = [str(model.tag) for model in bentoml.get(tool.build(name)).info.all_models]
    assert held == [newer]
    version = models["logistic"].partition(":")[2]
    promote(models_folder() / name, version, by="", reason="")
    try:
        bento = bentoml.get(tool.build(name))
    finally:
        (models_folder() / name / ALIASES).unlink()
        bentoml.models.delete(newer)
    assert [(str(model.tag), model.alias) for model in bento.info.all_models] == [
        (models["logistic"], "churn_classifier")
    ]


def test_ending_the_tool_ends_the_server_it_tries_the_bento_with(
    models: dict[str, str], tmp_path: Path
) -> None:
    running = psutil.Popen(
        [sys.executable, tool.__file__, "--write-tag", str(tmp_path / "tag")],
        env={**os.environ, "CHURN_MODEL_TAG": models["logistic"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    family: list[psutil.Process] = []
    deadline = time.monotonic() + tool.READY_SECONDS
    # The tool's server and that server's worker.
    while len(family) < 2:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
        with suppress(ProcessLookupError):
            children = running.children(recursive=True)
            family = [child for child in children if os.getsid(child.pid) != os.getsid(0)]
    running.terminate()
    assert running.wait(tool.STOP_SECONDS) == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(family, timeout=tool.STOP_SECONDS)
    assert alive == []
    assert not (tmp_path / "tag").exists()


def test_a_model_that_is_missing_leaves_no_bento_and_no_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {str(bento.tag) for bento in bentoml.list()}
    monkeypatch.setenv("CHURN_MODEL_TAG", "no_such_model")
    assert tool.main(["--write-tag", str(tmp_path / "tag")]) == 1
    assert "no_such_model" in capsys.readouterr().err
    assert not (tmp_path / "tag").exists()
    assert {str(bento.tag) for bento in bentoml.list()} == before
