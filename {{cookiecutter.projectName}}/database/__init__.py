"""Change sets of the two databases (training/, inference/) and the Python that they share (python/)."""
