"""Ratios against limits and against the alternatives of a user: `python -m benchmarks`.

`__main__` generates a project, starts its local servers and runs `measure` inside the project's pipeline
environment; `measure` runs one module per measurement and writes the figures as JSON.
"""
