"""The pipeline outside the databases: one module per step of MLproject, and what the steps share."""
