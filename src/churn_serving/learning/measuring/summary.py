"""The figures of a training on one screen, 80 characters wide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from churn_serving.learning.training import TrainingResult

__all__ = ["summary"]

_TITLES: Final = {
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "log-loss",
    "brier": "Brier",
    "f1": "F1",
    "lift_10": "lift, 10%",
}
_WIDEST: Final = len("0.840 0.829-0.851")
_MARKS: Final = {"passed": "[green]good:[/]", "stopped": "[red]stopped:[/]", "skipped": "skipped:"}


def summary(result: TrainingResult) -> RenderableType:
    """Return what ``make train`` prints."""
    measured = result.measured
    parts: list[RenderableType] = [_figures(measured), Text.from_markup(_chosen(measured))]
    parts += [Text.from_markup(line) for line in _sentences(measured)]
    parts.append(_subgroups(measured))
    parts += [Text.from_markup(f"[yellow]note:[/] {escape(each)}") for each in result.notices]
    passed = ", ".join(each.gate for each in result.verdicts if each.outcome == "passed")
    parts.append(Text.from_markup(f"[green]passed:[/] {passed or 'nothing'}"))
    parts += [
        Text.from_markup(f"{_MARKS[each.outcome]} {escape(each.sentence)}")
        for each in result.verdicts
        if each.outcome != "passed" or each.gate == "champion"
    ]
    return Group(*parts)


def _figures(measured: Mapping[str, Any]) -> Table:
    validations: dict[str, Any] = measured["cross_validation"]
    table = Table(
        "",
        title="Value and 95% interval",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for name in validations:
        table.add_column(f"{_broken(name)}\ncross-validated", no_wrap=True)
    held_out = f"{measured['test_rows']:,} held-out"
    table.add_column(f"{_broken(measured['candidate'])}\n{held_out}", no_wrap=True)
    table.add_column("\nno skill", no_wrap=True)
    for name, title in _TITLES.items():
        figures = [*(each.get(name) for each in validations.values()), measured["held_out"][name]]
        table.add_row(title, *map(_interval, figures), f"{measured['no_skill'][name]:.3f}")
    return table


def _broken(name: str) -> str:
    """Break a long name at its last hyphen."""
    head, hyphen, tail = name.rpartition("-")
    return f"{head}{hyphen}\n{tail}" if len(name) > _WIDEST else name


def _interval(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return ""
    return f"{figure['value']:.3f} [dim]{figure['low']:.3f}-{figure['high']:.3f}[/]"


def _bounds(figure: Mapping[str, float]) -> str:
    # No markup: brackets are brackets.
    return escape(f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]")


def _chosen(measured: Mapping[str, Any]) -> str:
    selection, threshold = measured["selection"], measured["threshold"]
    behind = selection["behind_the_best"]
    lines = []
    if len(behind) > 1:
        best, chosen = selection["best"], selection["chosen"]
        why = (
            "the best log-loss"
            if best == chosen
            else f"the simplest within one standard error of {best} (log-loss "
            f"{behind[chosen]['value']:+.4f}, fold by fold)"
        )
        lines.append(f"Chosen: [bold]{chosen}[/], {why}.")
    lines.append(
        f"Churn is predicted from a probability of {threshold['value']:.3f} on, where F1 is best "
        f"([dim]{threshold['low']:.3f} to {threshold['high']:.3f}[/])."
    )
    return "\n".join(lines)


def _calibration(measured: Mapping[str, Any]) -> str:
    found = measured["calibration"]
    lines = [f"{name} {_bounds(found[name])}" for name in ("slope", "intercept") if name in found]
    lines.append(f"ECE {found['error']:.3f} (by chance {found['chance']['mean']:.3f})")
    verdict = "[green]passed[/]" if found["passed"] else "[red]failed[/]"
    sigmoid = "; a sigmoid corrects it" if found["corrected"] else ""
    return f"Calibration: {', '.join(lines)}: {verdict}{sigmoid}."


def _sentences(measured: Mapping[str, Any]) -> list[str]:
    return [_calibration(measured), _profit(measured), *_fields(measured)]


def _profit(measured: Mapping[str, Any]) -> str:
    found = measured["profit"]
    above = f"those above {found['threshold']:.3f}" if "threshold" in found else "nobody"
    return (
        f"Profit per customer, an estimate: {_bounds(found['per_customer'])} if {above} are "
        f"contacted, {found['curve']['profit'][0]:.2f} if everybody is."
    )


def _fields(measured: Mapping[str, Any]) -> list[str]:
    if "fields" not in measured:
        return []
    cost = measured["fields"]
    return [
        (
            f"AUC of the fields {cost['fields']:.3f}, of all {cost['columns']} columns "
            f"{cost['all_columns']:.3f} (logistic, cross-validated)."
        )
    ]


def _subgroups(measured: Mapping[str, Any]) -> Table:
    table = Table(
        "held-out customers",
        *("number", "left", "predicted", "flagged", "of leavers found"),
        pad_edge=False,
        box=None,
    )
    for kinds in measured["subgroups"].values():
        for each in kinds:
            recall = each.get("recall")
            table.add_row(
                each["name"],
                f"{each['rows']:,}",
                f"{each['observed']:.1%}",
                f"{each['predicted']:.1%}",
                f"{each['flagged']:.1%}",
                _share(recall) if recall else "",
            )
    return table


def _share(recall: Mapping[str, float]) -> str:
    return f"{recall['value']:.0%} [dim]{recall['low']:.0%}-{recall['high']:.0%}[/]"
