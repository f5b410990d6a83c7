"""The same model behind each server: a folder for each, whose ``SERVERS`` say how it is run.

A server with a ``requirements.in`` (``requirements.txt`` is its lock) gets a virtual environment of
its own; the others run in that of the bench. Whatever else is in a folder runs in the server's own
process: it may import ``bench.servers.rows``, and nothing else of this project unless the server
runs in the bench's environment. ``registry`` has all of them.
"""
