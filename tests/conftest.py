"""Fixtures and isolation for every test: none of them touches the user's model store."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Before BentoML is imported: it reads both when it is. Each of pytest-xdist's processes has a store
# of its own, with the models that its tests register.
_BENTOML_HOME = tempfile.mkdtemp(prefix="churn-serving-tests-")
os.environ["BENTOML_HOME"] = _BENTOML_HOME
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
atexit.register(shutil.rmtree, _BENTOML_HOME, ignore_errors=True)

# The tests in the image cannot write beside themselves; on a busy machine, nothing is late.
settings.register_profile("ours", database=None, deadline=None)
settings.load_profile("ours")

# service.py and train_and_save.py are scripts beside the package.
sys.path.insert(0, str(Path(__file__).parents[1]))


QUICK = {Path(__file__).with_name(tier) for tier in ("package", "service")}


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All of the quick tests: a process for each CPU. A few tests, or servers: one alone."""
    asked = {(config.invocation_params.dir / argument).resolve() for argument in config.args}
    if asked <= QUICK:
        return len(os.sched_getaffinity(0))
    config.option.dist = "no"
    return 0


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but not one that BentoML's own import gives."""
    config.addinivalue_line("filterwarnings", "ignore:GitWildMatchPattern:DeprecationWarning")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine function has an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = inspect.signature(pyfuncitem.function).parameters
    asyncio.run(pyfuncitem.function(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
