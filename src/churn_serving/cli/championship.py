"""Which model is better, which one is served, and who decided that."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from churn_serving.cli.terminal import TITLES, facts, note, say, say_json, table
from churn_serving.errors import ModelNotFoundError
from churn_serving.model import aliases
from churn_serving.model.aliases import CHAMPION
from churn_serving.model.artifact import Trust, aliases_of, load_artifact, models_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from churn_serving.learning.comparison import Comparison

__all__ = ["compare_models", "promote_model", "roll_back_model", "show_history"]

_RELOAD: Final = "A service that runs takes it at SIGHUP or at its next start."


def compare_models(
    *, a: str, b: str, data: Path, public_key: Path | None, allow_pickle: bool, as_json: bool
) -> None:
    """Print which of two models is better on customers whom neither was trained on.

    Raises:
        SettingsError: The key file holds no public key.
        DataError: The table was refused.
        ModelError: One of them cannot be served.
    """
    # Imported late: the other commands need no training library.
    from churn_serving.learning.comparison import compare  # noqa: PLC0415
    from churn_serving.learning.dataset import load_dataset  # noqa: PLC0415

    trust = Trust.of(public_key, allow_pickle=allow_pickle)
    one, other = (load_artifact(tag, trust) for tag in (a, b))
    dataset = load_dataset(data)
    found = compare(one, other, dataset)
    tags = {"A": one.tag, "B": other.tag}
    left_out = dataset.rows - found.rows
    if as_json:
        say_json(
            {
                **{key.lower(): tag for key, tag in tags.items()},
                "data": dataset.provenance,
                "rows": found.rows,
                "rows_left_out": left_out,
                "rows_trained_on": dict(zip("ab", found.trained_on, strict=True)),
                "customers": {"left": found.left, "stayed": found.stayed},
                "figures": dict(zip("ab", found.figures, strict=True)),
                "differences": {name: asdict(each) for name, each in found.differences.items()},
                "better": tags.get(found.better),
                "verdict": _verdict(found, tags),
            }
        )
        return
    facts(
        [
            ("A", one.tag),
            ("B", other.tag),
            ("table", f"{dataset.rows:,} rows of {dataset.source}"),
            ("left out", _left_out(found, left_out)),
            ("compared", f"{found.left:,} customers who left, {found.stayed:,} who stayed"),
        ]
    )
    if found.differences:
        say("")
        table(
            ("", "A", "B", "A - B", "95% interval"),
            (
                (
                    TITLES[name],
                    *(f"{figures[name]:.4f}" for figures in found.figures),
                    f"{found.differences[name].value:+.4f}",
                    f"{found.differences[name].low:+.4f} to {found.differences[name].high:+.4f}",
                )
                for name in found.differences
            ),
        )
        say("")
    for key, known in zip("AB", found.trained_on, strict=True):
        if known is None:
            note(
                f"nobody knows which customers {key} was trained on: if some are in this table, "
                "its figures are flattered"
            )
    say(_verdict(found, tags))


def promote_model(*, tag: str, reason: str, public_key: Path | None, allow_pickle: bool) -> None:
    """Make a model the champion, after it was loaded as serving would.

    Raises:
        SettingsError: The key file holds no public key.
        ModelError: Serving would refuse it, or the aliases are damaged.
        OSError: The store cannot be written.
    """
    artifact = load_artifact(tag, Trust.of(public_key, allow_pickle=allow_pickle))
    name, _, version = artifact.tag.partition(":")
    forced = artifact.manifest.labels.get("forced")
    change = aliases.promote(models_folder() / name, version, by=_user(), reason=reason)
    if change is None:
        say(f"{artifact.tag} is the champion already.")
        return
    if forced is not None:
        note(f"it was registered by force, against the gates: {forced}")
    say(f"{artifact.tag} is the champion now{_instead_of(change.previous)}. {_RELOAD}")


def roll_back_model(*, name: str, reason: str, public_key: Path | None, allow_pickle: bool) -> None:
    """Make the champion before this one the champion again.

    Raises:
        SettingsError: The key file holds no public key.
        ModelNotFoundError: There was none before.
        ModelError: Serving would refuse it, or the aliases are damaged.
        OSError: The store cannot be written.
    """
    now = aliases_of(name)
    if now.champion is None:
        raise ModelNotFoundError(f"No version of '{name}' was ever promoted: nothing to roll back.")
    if now.before is None:
        raise ModelNotFoundError(
            f"{name}:{now.champion} has no champion before it to go back to; promote another "
            "version with: churn model promote TAG"
        )
    load_artifact(f"{name}:{now.before}", Trust.of(public_key, allow_pickle=allow_pickle))
    change = aliases.roll_back(models_folder() / name, now.before, by=_user(), reason=reason)
    say(f"{name}:{change.version} is the champion again{_instead_of(change.previous)}. {_RELOAD}")


def show_history(name: str, *, as_json: bool) -> None:
    """Print how the champion of a name has changed, the newest change first.

    Raises:
        ModelError: The aliases are damaged, or the store cannot be read.
    """
    now = aliases_of(name)
    if as_json:
        say_json({"name": name, **now.model_dump(mode="json")})
        return
    if not now.history:
        say(
            f"No version of '{name}' was ever promoted: the latest is served. Promote one with: "
            "churn model promote TAG"
        )
        return
    table(
        ("champion", "since (UTC)", "by", "reason"),
        (
            (
                change.version,
                change.at.removesuffix("+00:00").replace("T", " "),
                change.by,
                ": ".join(filter(None, ("rolled back" * change.rolled_back, change.reason))),
            )
            for change in reversed(now.history)
        ),
        fold="reason",
    )
    say(f"Served as {name} and {name}:{CHAMPION}: {name}:{now.champion}")


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user needs no name
        return ""
    return name[:100] if name.isprintable() else ""


def _instead_of(previous: str | None) -> str:
    return f", instead of {previous}" if previous else ""


def _left_out(found: Comparison, rows: int) -> str:
    if not rows:
        return "nothing: neither is known to have been trained on a customer of it"
    reasons = [
        f"{known:,} of customers whom {key} was trained on"
        for key, known in zip("AB", found.trained_on, strict=True)
        if known
    ]
    return f"{rows:,} rows: {', '.join(reasons)}"


def _verdict(found: Comparison, tags: Mapping[str, str]) -> str:
    if not found.is_enough:
        return (
            f"It cannot be told which one is better: {found.left:,} customers who left and "
            f"{found.stayed:,} who stayed are fewer than 50 of a kind."
        )
    if not found.better:
        return "It cannot be told which one is better: the difference in log-loss may be chance."
    return (
        f"{found.better} is better, {tags[found.better]}: its log-loss is "
        f"{abs(found.differences['log_loss'].value):.4f} lower."
    )
