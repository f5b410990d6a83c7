"""The bench: one harness that measures this service beside other ways to serve the same model.

``servers`` describes each server once, in a folder of its own. ``load`` is everything that asks:
wrk, h2load, paced clients, Locust. ``harness`` starts the servers, measures them, and writes the
figures down. ``make bench`` and ``make load`` are the front doors; the chaos tests use ``load``.
"""
