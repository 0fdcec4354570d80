"""The third-party programs that the suites run, at pinned versions, and the functions that run them."""
