"""Versions of the model: aliases, ONNX export, reports."""
