"""The same model behind each server: a folder for each, whose ``SERVERS`` say how it is run.

A server with a ``requirements.in`` (``requirements.txt`` is its lock) gets a virtual environment of
its own. Ours and BentoML get one with what production installs, the others run in that of the
bench. Whatever else is in a folder runs in the server's own process: it may import
``bench.servers.rows``, and more of this project only if the server runs in the environment of the
bench. ``registry`` has all of them.
"""
