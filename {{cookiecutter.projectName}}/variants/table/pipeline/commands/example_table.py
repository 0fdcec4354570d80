"""Create the example table in a local training database.

It is scikit-learn's breast cancer data, created only where project.yaml names that table and the table is absent. The
local servers run this command when they start.
"""

import contextlib

import psycopg2.extras
from psycopg2 import sql
from sklearn.datasets import load_breast_cancer

from pipeline.databases import binding, connect
from pipeline.settings import settings

NAMES = ("public", "breast_cancer")


def main() -> None:
    """Create the table in a local training database; do nothing elsewhere. Raises StepError, psycopg2.Error."""
    if binding("training-deployer").provider == "local":
        create_table()


def create_table() -> None:
    """Write 569 rows of id, 30 numbers and diagnosis (benign, malignant), unless a table of that name exists."""
    source = settings().source
    if source is None or (source.schema, source.table) != NAMES:
        return
    data = load_breast_cancer()
    columns = [name.replace(" ", "_") for name in data.feature_names]
    with contextlib.closing(connect("training-deployer")) as connection, connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", (".".join(NAMES),))
        if cursor.fetchone() != (None,):
            return
        numbers = sql.SQL(", ").join(sql.SQL("{} float8 NOT NULL").format(sql.Identifier(name)) for name in columns)
        table = sql.Identifier(*NAMES)
        cursor.execute(
            sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, {}, diagnosis text NOT NULL)").format(table, numbers)
        )
        rows = [
            (number, *map(float, values), str(data.target_names[target]))
            for number, (values, target) in enumerate(zip(data.data, data.target), start=1)
        ]
        psycopg2.extras.execute_values(cursor, sql.SQL("INSERT INTO {} VALUES %s").format(table), rows)
        cursor.execute(sql.SQL("ANALYZE {}").format(table))
