"""Serves predictions: the API (api.py) and the page (ui.py), which `python -m app` starts.

It stands alone: nothing here imports the pipeline.
"""
