"""The HTTP edge, in the order a request meets it.

``tracing`` and ``access_log`` watch it pass, if they are switched on. ``fast_lane`` answers the
JSON routes itself; what it does not know falls through to ``native_lane``, which holds BentoML's
own request path to the same contract. Both read the body with ``body``, parse and answer through
``endpoints``, and turn errors into answers with ``problems``; ``state`` tells them whether there is
a model. Behind BentoML's path stand ``docs`` for people and ``observability`` for Prometheus.
"""
