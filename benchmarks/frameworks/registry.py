"""Every framework, in the order of the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.frameworks import (
    bentoml_untuned,
    fastapi_textbook,
    fastapi_tuned,
    litserve,
    mlflow,
    mlserver,
    ours,
    ray_serve,
    torchserve,
    triton,
)

if TYPE_CHECKING:
    from benchmarks.frameworks.framework import Framework

__all__ = ["FRAMEWORKS", "OURS"]

OURS: Final = ours.FRAMEWORK

FRAMEWORKS: Final[dict[str, Framework]] = {
    framework.name: framework
    for framework in (
        OURS,
        fastapi_textbook.FRAMEWORK,
        fastapi_tuned.FRAMEWORK,
        bentoml_untuned.FRAMEWORK,
        torchserve.FRAMEWORK,
        triton.FRAMEWORK,
        mlflow.FRAMEWORK,
        mlserver.FRAMEWORK,
        litserve.FRAMEWORK,
        ray_serve.FRAMEWORK,
        ray_serve.FRAMEWORK_HAPROXY,
    )
}
