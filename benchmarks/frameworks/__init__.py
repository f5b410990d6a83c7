"""The same model behind other frameworks, each in a virtual environment of its own.

``python -m benchmarks.frameworks`` installs, starts, checks and measures one after the other. Each
has a folder here: its ``FRAMEWORK`` says how it is installed, started and asked, its
``requirements.in`` what it needs (``requirements.txt`` is the lock), and whatever else is there
runs inside its own environment.
"""
