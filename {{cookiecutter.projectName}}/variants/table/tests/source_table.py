"""A table of the tests' own, which project.yaml names for as long as a test runs."""

import dataclasses

import numpy as np

from pipeline import training_db
from pipeline.data import catalog, encoding, expressions, source, splits
from pipeline.databases import connect, query
from pipeline.settings import Source, settings

SCHEMA = "test source"
# Names with all that a careless statement would break on.
NAME = 'a "table", 100 %'
TABLE = f'"{SCHEMA}"."a ""table"", 100 %"'
ROWS = 3000
MAKE = """
CREATE TABLE {table} AS SELECT
    i AS id, (i % 97 / 7.0)::real AS "{schema} %s",
    CASE WHEN i % 10 <> 0 THEN (i % 31 + 0.25)::numeric(8, 3) END AS "height, in %",
    CASE WHEN i % 5 <> 0 THEN i % 3 = 0 END AS smoker,
    (CASE i % 4 WHEN 0 THEN 'Bern' WHEN 1 THEN 'Basel' WHEN 2 THEN 'Zug' END)::char(8) AS home,
    (CASE WHEN i % 2 = 0 THEN 10 ELSE 9 END) AS outcome
FROM generate_series(1, {rows}) AS i
"""


class Place:
    """A table of the test's own, and sessions of both roles; `pack` and `examine` undo what they write."""

    def __init__(self, monkeypatch) -> None:
        self.deployer, self.trainer = connect("training-deployer"), connect("trainer")
        self._monkeypatch = monkeypatch
        self.name(label="outcome")
        self.run(f'DROP SCHEMA IF EXISTS "{SCHEMA}" CASCADE')
        self.run(f'CREATE SCHEMA "{SCHEMA}"')

    def name(self, **options) -> None:
        """Let project.yaml name this table."""
        named = dataclasses.replace(Source(SCHEMA, NAME, "outcome", None, ()), **options)
        changed = dataclasses.replace(settings(), source=named)
        self._monkeypatch.setattr(catalog, "settings", lambda: changed)

    def run(self, statement: str) -> None:
        with self.deployer, self.deployer.cursor() as cursor:
            cursor.execute(statement.replace("{table}", TABLE).replace("{rows}", str(ROWS)))

    def ask(self, statement: str, *parameters) -> list:
        """Ask as the trainer, without an end of the transaction."""
        return query(self.trainer, statement.replace("{table}", TABLE), parameters or None)

    def made(self) -> "Place":
        """Make the usual table, which the trainer may read."""
        self.run(MAKE)
        self.run("ALTER TABLE {table} ADD PRIMARY KEY (id)")
        return self.granted()

    def granted(self) -> "Place":
        source.grant(self.deployer, f"{settings().schema}_trainer")
        return self

    def examine(self) -> encoding.Examined:
        with self.deployer:
            expressions.read_one_snapshot(self.deployer)
            examined = encoding.examine(self.deployer, with_labelled=False)
            self.deployer.rollback()
        return examined

    def pack(self, seed: int = 1, rows_per_block: int = 100) -> splits.PackResult:
        return source.pack(self.trainer, seed, rows_per_block)

    def blocks(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return features and labels of a split, as they lie in the selected data set."""
        data = training_db.current_data(self.trainer)
        return training_db.sample_rows(self.trainer, data, split, 10**9)

    def end(self) -> None:
        self.trainer.rollback()
        self.deployer.rollback()
        self.run(f'DROP SCHEMA "{SCHEMA}" CASCADE')
        for session in (self.deployer, self.trainer):
            session.close()
