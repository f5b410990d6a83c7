"""What measures: ``__main__`` in the folder above is its command line.

``workload`` trains the models, ``environment`` installs a server, ``visit`` measures one,
``comparison`` runs the rounds, ``targets`` holds the promises, ``report`` and ``chart`` write it
down. ``soak`` runs one server for minutes, ``commit`` serves another commit of this project.
"""
