"""What the bench installs and exports, with real environments and processes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import bentoml
import numpy as np
import pytest

from bench.errors import BenchmarkError
from bench.harness.environment import install
from bench.harness.export import export
from bench.harness.workload import SCORER, customers
from bench.kinds import GRADIENT_BOOSTING, LOGISTIC
from bench.kinds.register import register
from bench.servers.ours import OURS
from bench.servers.server import Tool
from churn_serving.features.rows import customer_row, feature_matrix

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", [LOGISTIC, GRADIENT_BOOSTING])
def test_an_exported_scorer_needs_numpy_and_nothing_of_this_project(
    tmp_path: Path, kind: str
) -> None:
    made = register(kind, f"exported_{kind.replace('-', '_')}")
    assert made is not None
    tag, fitted = made
    whole = bentoml.sklearn.load_model(tag)
    churn = export(tag, whole, tmp_path / "made")
    X = feature_matrix(map(customer_row, customers()))
    np.save(tmp_path / "X.npy", X)
    # Isolated: neither this project nor the folder it runs in can be imported.
    program = (
        "import sys, pickle, numpy as np\n"
        "for name in ('churn_serving', 'sklearn', 'scipy', 'joblib', 'pydantic', 'bentoml'):\n"
        "    sys.modules[name] = None\n"
        f"scorer = pickle.load(open({str(tmp_path / 'made' / SCORER)!r}, 'rb'))\n"
        f"print(scorer.score(np.load({str(tmp_path / 'X.npy')!r})).tolist())\n"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    expected = fitted.whole.predict_proba(X)[:, 1]
    assert json.loads(result.stdout) == pytest.approx(expected.tolist(), abs=1e-12)
    assert churn == pytest.approx(expected.tolist(), abs=1e-12)


def test_what_cannot_be_installed_says_why(tmp_path: Path) -> None:
    unknown = replace(OURS, folder=tmp_path, requirements=None)
    (tmp_path / "requirements.txt").write_text(
        f"no-such-package-anywhere==1.0 --hash=sha256:{'0' * 64}\n"
    )
    with pytest.raises(BenchmarkError, match="cannot be installed"):
        install(unknown, tmp_path / "env")
    assert not list((tmp_path / "env").rglob("installed"))
    missing = replace(OURS, tools=(Tool("no-such-program", "get it there"),))
    with pytest.raises(BenchmarkError, match="no-such-program is missing; get it there"):
        install(missing, tmp_path / "env")
