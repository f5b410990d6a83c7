"""The life of the processes: start, state, connections, end."""
