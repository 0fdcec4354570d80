"""Backstage's real scaffolder, driven from Python."""
