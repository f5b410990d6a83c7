"""``python -m churn_serving.cli``."""

from __future__ import annotations

import sys

from churn_serving.cli import main

if __name__ == "__main__":
    sys.exit(main())
