#!/usr/bin/env python3
"""Wrap deploy/prometheus/rules.yaml into a PrometheusRule, as the Prometheus operator wants it.

Run it after a change of the rules: ``python deploy/kubernetes/copy_rules.py``. A test compares.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

HERE = Path(__file__).parent
RULES = HERE.parent / "prometheus" / "rules.yaml"
PROMETHEUS_RULE = HERE / "overlays" / "production" / "prometheusrule.yaml"

HEAD = """\
# A copy of deploy/prometheus/rules.yaml, made by deploy/kubernetes/copy_rules.py: change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: churn-serving
  labels:
    app.kubernetes.io/name: churn-serving
spec:
"""


def prometheus_rule(rules: str) -> str:
    """Return the manifest for a file of rules, with the comments between them."""
    # As text: reading and writing YAML would lose the comments and fold the expressions anew.
    groups = rules[rules.index("groups:\n") :]
    return HEAD + textwrap.indent(groups, "  ")


if __name__ == "__main__":
    PROMETHEUS_RULE.write_text(prometheus_rule(RULES.read_text()))
