"""Throw-away servers for a laptop: two PostgreSQL clusters and an MLflow server, private to this project.

`python3 -m local <command>` needs nothing but the system's Python: it installs what is missing (Debian
and Ubuntu packages, hash-locked Python environments, Liquibase), starts the servers and writes service
bindings for them. Outside a laptop none of this is used.
"""
