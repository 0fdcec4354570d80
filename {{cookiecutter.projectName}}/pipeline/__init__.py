"""The pipeline outside the databases: the steps of MLproject, in `steps`, and their shared modules."""
