"""The steps of the pipeline: one entry point of MLproject per module; steps never import each other.

A module's docstring and the section `Args:` of its `run` are the help of the command line.
"""
