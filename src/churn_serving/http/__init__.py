"""The HTTP edge, in the order a request meets it.

``app`` puts the parts together. ``edge`` gives a request an id and a deadline, asks ``keys`` and
``cors``, and counts it; ``tracing`` stands around it, if it is switched on. ``lane`` answers the
JSON routes: it reads the body with ``body``, and parses, scores and answers through the route's
version in ``api``. ``fallback`` answers the rest: with the ``pages`` (``docs`` for people, probes,
figures for Prometheus), with the few paths that BentoML knows better, or with 404. ``problems``
turns errors into answers.
"""
