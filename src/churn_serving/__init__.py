"""A scikit-learn churn model, served.

The way of a request, one folder a step::

    bytes -> Customer -> row -> batch -> probability -> answer -> bytes
    http     schema      features  inference  model     http

Beside it: ``learning`` makes the model, ``bulk`` scores whole tables with it, ``telemetry`` counts
and tells, ``runtime`` is the life of the processes. ``context`` knows the request's id and
deadline, ``settings`` says what an operator may decide, ``fields`` what is known of a customer,
``cpus`` how many there are, ``revision`` which commit this is, ``errors`` what may go wrong. A
module imports only from those to its left::

    errors, cpus, revision, settings, context, fields -> schema -> features -> model, telemetry
    -> learning, inference, bulk -> runtime -> http -> cli

``service.py`` puts it all into a BentoML service, ``train_and_save.py`` into a command; ``cli`` is
the command ``churn``, which looks after models.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
