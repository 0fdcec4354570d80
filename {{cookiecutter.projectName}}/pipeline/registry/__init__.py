"""Candidates, aliases and versions of the model: reports, ONNX export, promotion."""
