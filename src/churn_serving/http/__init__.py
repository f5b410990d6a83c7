"""The HTTP edge, in the order a request meets it.

``edge`` gives it an id and a deadline, and counts it; ``tracing`` and ``keys`` stand before and
behind, if they are switched on. ``fast_lane`` answers the JSON routes itself. ``pages`` answers
what is asked for with GET: ``docs`` for people, ``health`` for probes, ``observability`` for
Prometheus. What remains falls through to ``native_lane``, which holds BentoML's own request path to
the contract.

Both lanes read the body with ``body``, parse and answer through ``endpoints``, and turn errors into
answers with ``problems``. ``state`` tells all of them about the service, ``routes`` which paths
there are. ``worker`` is one process's life, and ``connections`` its sockets.
"""
