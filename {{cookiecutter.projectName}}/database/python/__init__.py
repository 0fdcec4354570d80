"""Python of the databases' PL/Python functions; `make sql` copies it into the change sets that name it.

A module runs in a database as the inside of a function, once per call: annotations that name types of `typing` or
NumPy are quoted, and what must last for a session is an argument, PL/Python's dictionary GD. Python 3.9 runs it.
"""
