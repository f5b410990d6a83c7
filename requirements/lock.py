"""Compile the locks: ``make lock``, or ``make lock UPGRADE=--upgrade`` to take newer versions."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CHAIN: Final = ("runtime", "sklearn", "train", "build", "dev")
# Each lock and those that it is installed on, in the order in which they are compiled.
BELOW: Final = {
    **{name: CHAIN[:number] for number, name in enumerate(CHAIN)},
    "bulk": ("runtime",),
    "spark": (*CHAIN, "bulk"),
    "boosters": ("runtime", "sklearn", "train"),
    **dict.fromkeys(("test", "load", "bench"), CHAIN),
}
# Those that are extras of the package; the others but the first are groups.
EXTRAS: Final = ("sklearn", "train", "bulk", "spark", "boosters")
# The bench's servers have locks of their own, with our versions of what the model is made of.
SERVERS: Final = sorted(HERE.parent.glob("bench*/*/*/requirements.in"))
MADE_OF: Final = ("runtime", "sklearn", "train")
MODEL: Final = re.compile(r"(?m)^(?:cloudpickle|joblib|numpy|scikit-learn|scipy)==[^\\\n]+")
# The line of a pin, and below it its hashes and what wants it.
PIN: Final = re.compile(r"(?m)^(\w.*)((?:\n .*)*)")
UV: Final = (
    *(str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--universal"),
    *("--python-version", "3.11", "--generate-hashes", "--annotation-style", "line", "--no-header"),
)


def header(lock: Path) -> str:
    """Return a lock's first line: a digest of what it is compiled from tells if it is stale."""
    if lock.parent == HERE:
        pyproject = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
        project = pyproject["project"]
        tables = {"runtime": [project["requires-python"], *project["dependencies"]]}
        tables |= project["optional-dependencies"] | pyproject["dependency-groups"]
        source = json.dumps([tables[name] for name in (*BELOW[lock.stem], lock.stem)])
    else:
        files = (lock.with_name("requirements.in"), lock.with_name("overrides.txt"))
        source = "".join(file.read_text() for file in files if file.exists()) + model()
    return f"# Compiled by make lock from sha256:{hashlib.sha256(source.encode()).hexdigest()}\n"


def model() -> str:
    """Return our pins of what a model is trained with, and its arrays are computed with."""
    locks = "".join((HERE / f"{name}.txt").read_text() for name in MADE_OF)
    return "\n".join(sorted(MODEL.findall(locks)))


def compile_lock(lock: Path, arguments: list[str], bounds: str, below: str = "") -> None:
    """Compile a lock anew within bounds, from the versions it has; leave out what is below it."""
    with tempfile.TemporaryDirectory() as folder:
        constraints, made = Path(folder, "constraints.txt"), Path(folder, "made.txt")
        constraints.write_text(bounds)
        made.write_text(lock.read_text() if lock.exists() else "")
        cwd = HERE.parent if lock.parent == HERE else lock.parent
        files = ("--constraint", str(constraints), "--output-file", str(made))
        subprocess.run([*UV, *arguments, *files], cwd=cwd, check=True)
        present = {pin for pin, _ in PIN.findall(below)}
        added = [pin + why for pin, why in PIN.findall(made.read_text()) if pin not in present]
    text = re.sub(r"-c [^,\n]+, |, -c [^,\n]+", "", "\n".join([*added, ""]))
    lock.write_text(header(lock) + text)
    print(f"{len(added):4} pins in {lock.relative_to(HERE.parent)}", flush=True)


def main(options: list[str]) -> None:
    """Compile all of them; the options are uv's."""
    done: dict[str, str] = {}
    for name, others in BELOW.items():
        # Whose extra is not named has what training needs.
        extra = name if name in EXTRAS else "train"
        wanted = [] if name == "runtime" else ["--extra", extra]
        wanted += [] if name in {"runtime", *EXTRAS} else ["--group", name]
        lock, below = HERE / f"{name}.txt", "".join(done[other] for other in others)
        # Test, load and bench may be installed together, though none is below another.
        compile_lock(lock, ["pyproject.toml", *wanted, *options], "".join(done.values()), below)
        done[name] = lock.read_text()
    for source in SERVERS:
        overrides = ["--override", "overrides.txt"] * source.with_name("overrides.txt").exists()
        compile_lock(source.with_suffix(".txt"), [source.name, *overrides, *options], model())


if __name__ == "__main__":
    main(sys.argv[1:])
