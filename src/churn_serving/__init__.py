"""A scikit-learn churn model, served.

The way of a request, one module a step::

    bytes -> Customer -> row -> batch -> probability -> Prediction -> bytes
    http     schema      features  batching  scoring     prediction    http

Beside it: ``dataset`` and ``training`` make the model, ``artifact`` keeps it in BentoML's model
store. ``context`` knows the request's id and deadline, ``resilience`` says no when it must,
``metrics`` counts, ``exposition`` adds the processes up, ``process`` asks the operating system,
``reporting`` tells the others, ``log`` writes it down. ``settings`` says what an operator may
decide, ``errors`` what may go wrong. A module imports only from those to its left::

    errors, settings, context -> schema -> features
    -> dataset, artifact, scoring, resilience, metrics, process, log
    -> training, batching, exposition -> prediction, reporting -> http

``service.py`` puts it all into a BentoML service, ``train_and_save.py`` into a command.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
