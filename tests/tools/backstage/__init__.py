"""Backstage's scaffolder, run from Python."""
