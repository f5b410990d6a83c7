"""The locks: exact versions with hashes, which ``make lock`` compiles.

Each adds only what those below it do not pin, so it is installed together with them or after them::

    runtime   what serving needs; the Bento and the image hold nothing else
    train     on runtime: what training needs
    bulk      on runtime: what scores whole tables; nothing but Arrow, which train has, too
    build     on train: what the editable install needs
    dev       on build: style, types, pytest
    test      on dev; so are load (Locust) and bench

``data.txt`` is the public Telco table. The servers that the bench compares have locks of their own.
"""
