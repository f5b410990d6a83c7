"""What the supervisor has found for all its workers, told to them by their environment.

A worker that is started again must serve what its neighbours do: no newer "latest" model, and no
policy file that was changed meanwhile. SIGHUP replaces the workers, by such as get new pins.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

from churn_serving.model.policy import Policy, read_policy
from churn_serving.settings import ENV_PREFIX

if TYPE_CHECKING:
    from churn_serving.settings import Settings

__all__ = ["current_policy", "pinned_policy", "pins"]

_MODEL_TAG: Final = f"{ENV_PREFIX}MODEL_TAG"
_POLICY: Final = "_CHURN_POLICY"


def current_policy(settings: Settings) -> Policy:
    """Return what the policy file says now, or the default.

    Raises:
        PolicyError: The file says nothing sensible.
    """
    return Policy() if settings.policy_file is None else read_policy(settings.policy_file)


def pinned_policy(settings: Settings) -> Policy:
    """Return the policy of this process's neighbours; the current one if it has none.

    Raises:
        PolicyError: The file says nothing sensible.
    """
    file, _, policy = os.environ.get(_POLICY, "").partition("\n")
    if settings.policy_file is None or file != str(settings.policy_file):
        return current_policy(settings)
    return Policy(**json.loads(policy))


def pins(model_tag: str, policy: Policy, settings: Settings) -> dict[str, str]:
    """Return the environment variables by which a worker serves the same."""
    pinned = {_MODEL_TAG: model_tag}
    if settings.policy_file is not None:
        figures = {**policy.figures, "control_salt": policy.control_salt}
        pinned[_POLICY] = f"{settings.policy_file}\n{json.dumps(figures)}"
    return pinned
