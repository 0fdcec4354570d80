"""The table of the first run on a laptop: scikit-learn's breast cancer data, as an ordinary table.

`python -m pipeline.commands.example_table` makes it in the local training database where project.yaml names
it and there is none; local servers call it when they start.
"""

import sys

import psycopg2
import psycopg2.extras
from psycopg2 import sql
from sklearn.datasets import load_breast_cancer

from pipeline.databases import binding, connect, first_line
from pipeline.errors import StepError
from pipeline.settings import settings

NAMES = ("public", "breast_cancer")


def main() -> None:
    """Make the table, if it is the one that is trained on. A failure is one sentence."""
    try:
        if binding("training-deployer").provider == "local":
            make()
    except (StepError, psycopg2.Error) as error:
        sys.exit(f"error: the example table: {first_line(error)}")


def make() -> None:
    """Write 569 rows: id, 30 numbers, diagnosis (benign, malignant); a table of that name is left as it is."""
    source = settings().source
    if source is None or (source.schema, source.table) != NAMES:
        return
    data = load_breast_cancer()
    columns = [name.replace(" ", "_") for name in data.feature_names]
    connection = connect("training-deployer")
    with connection, connection.cursor() as cursor:
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
    connection.close()


if __name__ == "__main__":
    main()
