"""Ratios against the limits and against what a user would pick instead: `python -m benchmarks`.

`__main__` generates a project, starts its local servers and runs `measure` inside the project's pipeline
environment; `measure` runs one module a measurement and prints what it found as JSON.
"""
