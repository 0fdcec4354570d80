"""Serves predictions: the API (api.py) and the page (page.py), which `python -m app` starts.

Nothing here imports the pipeline.
"""
