"""Serves predictions: the API (api.py) and the page (ui.py). It stands alone: nothing here imports the pipeline."""
