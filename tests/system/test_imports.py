"""What a fresh Python loads for serving, and what it does not."""

from __future__ import annotations

import subprocess
import sys

from tests.package.test_architecture import (
    COMMANDS,
    MODULES,
    PACKAGE,
    TABLES,
    TRAINING_ONLY,
    _layer,
)


def loaded_by(*program: str) -> set[str]:
    """Run a program in a fresh Python without pandas and return the modules it loaded."""
    without = ("import sys", 'sys.modules["pandas"] = sys.modules["pyarrow"] = None')
    lines = (*without, *program, "print(*sorted(name for name, m in sys.modules.items() if m))")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_serving_needs_no_pandas_and_loads_no_training_code() -> None:
    serving = [
        ".".join(("churn_serving", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in MODULES
        if _layer(path) not in TRAINING_ONLY | COMMANDS | TABLES
    ]
    loaded = loaded_by("import importlib", *(f"importlib.import_module({n!r})" for n in serving))
    assert loaded >= {"churn_serving.inference.batching", "churn_serving.http.lane", "numpy"}
    assert not loaded & {"churn_serving.learning", "joblib", "nacl", "scipy", "sklearn"}


def test_looking_for_a_model_does_not_load_scikit_learn() -> None:
    loaded = loaded_by("import churn_serving.model.artifact")
    assert "bentoml" in loaded
    assert not loaded & {"sklearn", "scipy", "pandas"}
