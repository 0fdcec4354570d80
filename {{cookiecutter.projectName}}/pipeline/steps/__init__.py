"""The steps of the pipeline: one entry point of MLproject per module; steps never import each other."""
