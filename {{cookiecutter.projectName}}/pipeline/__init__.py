"""The pipeline: what runs outside the databases. One module a step, in the order of MLproject."""
