"""The performance harness: ``make bench`` compares this service with its peers on one core.

``servers`` says what is compared, ``load`` measures one server, ``compare`` runs the rounds,
``targets`` holds the promises, ``report`` and ``chart`` write it down; ``soak`` and ``pacer`` run
one server for minutes. ``peers`` are the other ways to serve the same registered model.
"""
