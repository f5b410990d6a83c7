"""The package's own description of itself holds: what imports what, and which error is which."""

from __future__ import annotations

import ast
import inspect
import re
from itertools import pairwise
from pathlib import Path

import pytest

import churn_serving
from churn_serving import errors
from churn_serving.errors import ChurnServingError
from churn_serving.http.problems import STATUS_OF

PACKAGE = Path(churn_serving.__file__).parent
ROOT = Path(__file__).parents[2]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
TRAINING_ONLY = {"learning"}
COMMANDS = {"cli"}
TABLES = {"bulk"}
SERVING_ONLY = {"context", "http", "inference", "runtime", "settings", "telemetry"}

ERRORS = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, Exception)
]


def _layer(path: Path) -> str:
    """Return the name by which the package's docstring knows a module."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _order() -> list[str]:
    """Return the modules in the import order that the package's docstring draws."""
    (drawn,) = re.findall(
        r"^    (errors, .*?)\n\n", churn_serving.__doc__ or "", re.MULTILINE | re.DOTALL
    )
    return [name for step in drawn.split("->") for name in re.findall(r"\w+", step)]


def _imports(path: Path) -> set[str]:
    """Return the full name of everything a file imports, in whatever place it does.

    Imports for type checking count too: what a module names in its signatures it depends on.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def _own_imports(path: Path) -> set[str]:
    """Return the modules of this package that a file imports."""
    inside = (name.split(".") for name in _imports(path) if name.startswith("churn_serving."))
    return {parts[1] for parts in inside if parts[1] != "__version__"}


def test_the_import_order_is_drawn_for_every_module() -> None:
    assert sorted(_order()) == sorted({_layer(path) for path in MODULES})


def test_the_import_reader_sees_imports_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import json, churn_serving.errors\n"
        "if TYPE_CHECKING:\n    from churn_serving.runtime.state import ServiceState\n"
        "def late():\n    from churn_serving.model import scoring, __version__\n",
        encoding="utf-8",
    )
    assert _own_imports(path) == {"errors", "model", "runtime"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_those_to_its_left(path: Path) -> None:
    order, layer = _order(), _layer(path)
    allowed = set(order[: order.index(layer)])
    if path.parent != PACKAGE:  # the files of a sub-package may know each other
        allowed.add(layer)
    assert _own_imports(path) <= allowed


def test_training_and_serving_meet_only_in_what_they_share() -> None:
    for path in MODULES:
        if _layer(path) in TRAINING_ONLY:
            assert not _own_imports(path) & (SERVING_ONLY), path.name
        elif _layer(path) not in COMMANDS:
            assert not _own_imports(path) & TRAINING_ONLY, path.name
    assert not _own_imports(ROOT / "train_and_save.py") & (SERVING_ONLY)
    assert not _own_imports(ROOT / "service.py") & TRAINING_ONLY


def test_whole_tables_are_scored_by_a_command_only() -> None:
    importers = {_layer(path) for path in MODULES if TABLES & _own_imports(path)}
    assert importers <= TABLES | COMMANDS
    assert not TABLES & _own_imports(ROOT / "service.py")


def test_few_modules_import_bentoml() -> None:
    importers = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(re.match(r"_?bentoml", name) for name in _imports(path))
    }
    assert importers == {
        "learning/registration.py",
        "model/artifact.py",
        "runtime/assemble.py",
        "runtime/supervisor.py",
        "runtime/worker.py",
    }


@pytest.mark.parametrize(
    ("library", "rooms"), [("pandas", {"learning"}), ("pyarrow", {"bulk", "learning"})]
)
def test_only_rooms_that_work_on_tables_name_their_libraries(library: str, rooms: set[str]) -> None:
    assert rooms == {
        _layer(path)
        for path in MODULES
        if any(name.partition(".")[0] == library for name in _imports(path))
    }


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_one_of_ours_and_says_what_it_is(error: type[Exception]) -> None:
    assert issubclass(error, ChurnServingError)
    assert error.__name__.endswith("Error")
    assert error.__name__ in errors.__all__
    sentence = inspect.getdoc(error) or ""
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert sentence != inspect.getdoc(error.__base__)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_has_a_status(error: type[ChurnServingError]) -> None:
    assert 400 <= STATUS_OF[error] < 600


def test_nothing_else_has_a_status() -> None:
    assert set(STATUS_OF) == set(ERRORS)


def test_the_drawing_of_the_errors_shows_their_real_hierarchy() -> None:
    drawn: dict[str, str | None] = {}
    ancestors: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        name = re.match(r"[ │├└─]*(\w+Error)\b", line)
        if name is None or not line.startswith("    "):
            continue
        depth = name.start(1)
        ancestors = [ancestor for ancestor in ancestors if ancestor[0] < depth]
        drawn[name[1]] = ancestors[-1][1] if ancestors else None
        ancestors.append((depth, name[1]))
    real = {
        error.__name__: error.__base__.__name__ if error is not ChurnServingError else None
        for error in ERRORS
        if error.__base__ is not None
    }
    assert drawn == real


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_a_module_exports_exists_and_is_sorted(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    exported: list[str] = []
    defined: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            defined |= names
            if "__all__" in names and node.value is not None:
                exported = ast.literal_eval(node.value)
    if path.name not in {"__init__.py", "__main__.py"}:
        assert exported, "a module says what it exports"
    assert set(exported) <= defined
    # As ruff sorts them: constants, then classes, then functions.
    ranks = [(0 if name.isupper() else 1 if name[0].isupper() else 2, name) for name in exported]
    assert all(one < other for one, other in pairwise(ranks))
