"""A project on a table: training where the table is, promotion, and equal answers of both databases."""

import html
import json
import re
from collections.abc import Iterator

import pytest
import yaml

from .project import Project, chain, step_lines
from .servers import Database, fact

TABLE = "public.breast_cancer"
FINGERPRINT = f"SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY id)) FROM {TABLE} AS t"  # noqa: S608


@pytest.fixture(scope="module", name="table")
def _table(default_project: Project) -> Iterator[Project]:
    """A project on the bundled table, on the default project's servers."""
    project = Project.generate(
        default_project.folder.parent, default_project.servers, dataset="table", projectName="breast-cancer"
    )
    project.run("python", "-m", "pipeline", "example_table")
    yield project
    with project.database("training-deployer") as database:
        database.query(f"DROP TABLE {TABLE} CASCADE")


@pytest.fixture(scope="module", name="first")
def _first(table: Project) -> tuple[str, list[tuple], list[tuple]]:
    """The output of the first run and of the demo, and the table's fingerprint before and after."""
    with table.database("training-deployer") as database:
        before = database.query(FINGERPRINT)
    output = table.pipeline("all").stdout + table.run("python", "-m", "pipeline", "demo").stdout
    with table.database("training-deployer") as database:
        return output, before, database.query(FINGERPRINT)


def test_the_bundled_table_is_an_ordinary_one(table: Project) -> None:
    """It has 569 rows and a primary key; a second command does not create it again."""
    with table.database("training-deployer") as database:
        rows, columns = database.query(
            f"SELECT (SELECT count(*) FROM {TABLE}), count(*) FROM information_schema.columns "  # noqa: S608
            "WHERE table_name = 'breast_cancer' AND table_schema = 'public'"
        )[0]
    assert (rows, columns) == (569, 32)
    assert table.run("python", "-m", "pipeline", "example_table").stdout == ""


def test_from_a_table_to_a_prediction(table: Project, first: tuple[str, list[tuple], list[tuple]]) -> None:
    """Every step runs, the accuracy is high, and the table is unchanged."""
    output, before, after = first
    assert step_lines(output, chain(table)) == chain(table)
    accuracy = float(re.search(r"^accuracy ([\d.]+) on \d+ held-out rows$", output, re.MULTILINE)[1])
    assert accuracy >= 0.95
    assert re.search(r"^a row it had never seen: predicted (benign|malignant), true (benign|malignant)$", output, re.M)
    assert before == after


@pytest.mark.usefixtures("first")
def test_the_report_has_the_query_of_the_errors(table: Project) -> None:
    """It lists every misclassified validation row, at most 20, and each has another label than predicted."""
    report = table.servers.tracking.report(table.schema)
    errors = round(fact(report, "validation rows") * (1 - fact(report, "validation accuracy")))
    query = html.unescape(re.search(r"<pre>(.+)</pre>", report, re.DOTALL)[1])
    with table.database("trainer") as database:
        listed = database.query(query)
    assert len(listed) == min(errors, 20) > 0
    assert all(predicted not in row for predicted, _, *row in listed)


@pytest.mark.usefixtures("first")
def test_both_databases_give_the_same_answer(table: Project) -> None:
    """predict(t.*) in the training database equals predict_row in the inference database to 1e-6, for every row."""
    with table.database("trainer") as trainer:
        rows = trainer.query("SELECT to_jsonb(t), {schema}.predict(t.*) FROM public.breast_cancer AS t")
    with table.database("inference-app") as app:
        answers = [app.value("SELECT {schema}.predict_row(%s::jsonb)", (json.dumps(row),)) for row, _ in rows]
    differences = [
        abs(a - b) for (_, ours), theirs in zip(rows, answers, strict=True) for a, b in zip(ours, theirs, strict=True)
    ]
    assert len(differences) == 2 * 569
    assert max(differences) <= 1e-6


@pytest.mark.usefixtures("first")
def test_psql_opens_both_databases(table: Project) -> None:
    """As docs/reference/data.md says, names need no schema; an unknown role is refused."""
    count_statement = (
        "SELECT count(probability) FROM (SELECT predict(t.*) AS probability FROM breast_cancer AS t LIMIT 5) AS p"
    )
    assert table.run("python", "-m", "pipeline", "psql", "trainer", "-Atc", count_statement).stdout == "5\n"
    create_statement = "CREATE TABLE public.of_a_person (a int); SELECT current_user; DROP TABLE of_a_person"
    user = table.run("python", "-m", "pipeline", "psql", "training-deployer", "-qAtc", create_statement).stdout
    assert user == table.run("python", "-m", "pipeline", "psql", "training-deployer", "-Atc", "SELECT user").stdout
    served = "SELECT model FROM model_info"
    assert table.run("python", "-m", "pipeline", "psql", "inference-app", "-Atc", served).stdout == "breast_cancer\n"
    completed = table.run("python", "-m", "pipeline", "psql", "nobody", status=1)
    assert completed.stderr.startswith("error: there is no role nobody; there are training-deployer, ")


@pytest.mark.usefixtures("first")
def test_a_stored_model_contains_no_row(table: Project) -> None:
    """It has no samples for the page, and both databases have the same encoding."""
    with table.database("inference-app") as app:
        encoding = app.value("SELECT encoding FROM {schema}.model_info")
    with table.database("trainer") as trainer:
        stored = trainer.value("SELECT encoding FROM {schema}.dataset ORDER BY selected_at DESC LIMIT 1")
    assert encoding == json.loads(stored)
    with table.database("inference-deployer") as deployer:
        assert deployer.value("SELECT samples FROM {schema}.model_version") == {}


@pytest.mark.usefixtures("first")
def test_packing_sends_no_row_to_the_client(table: Project) -> None:
    """The results that upload_dataset receives while it packs contain less than one column of the table."""
    program = (
        "import psycopg2.extensions as e, json, sys\n"
        "from pipeline import databases\n"
        "from pipeline.data import source\n"
        "received = []\n"
        "class Cursor(e.cursor):\n"
        "    def copy_expert(self, *_, **__): sys.exit('a copy')\n"
        "    def fetchall(self):\n"
        "        rows = super().fetchall(); received.extend(rows); return rows\n"
        "connection = databases.connect('trainer'); connection.cursor_factory = Cursor\n"
        "source.pack(connection, 77, 512); connection.rollback()\n"
        "print(json.dumps([[str(v) for v in row] for row in received]))\n"
    )
    received = json.loads(table.run("python", "-c", program).stdout)
    with table.database("trainer") as trainer:
        values = {str(value) for (value,) in trainer.query("SELECT area_error FROM public.breast_cancer")}
    numbers = {value for row in received for text in row for value in re.findall(r"[\d.]+", text)}
    # The deciles of a column are values of it, and others may coincide; all rows would be ten times as many.
    assert len(values & numbers) < 50 < len(values) / 10


@pytest.mark.usefixtures("first")
def test_new_rows_and_a_new_seed_leave_the_splits_as_they_are(table: Project) -> None:
    """The holdout of a grown table contains the old one, and the served model is evaluated on it."""
    with table.database("training-deployer") as database:
        columns = ", ".join(
            f'"{name}"' for (name,) in database.query(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' "
                "AND table_name = 'breast_cancer' AND column_name <> 'id' ORDER BY ordinal_position"
            )
        )  # fmt: skip
        grow = f"INSERT INTO {TABLE} (id, {columns}) SELECT id + 1000, {columns} FROM {TABLE} WHERE id <= 100"  # noqa: S608
        before = _splits(table, database)
        database.query(grow)
    output = table.pipeline("upload_dataset", "--seed", "2", "train_model", "evaluate_model", "promote_model").stdout
    with table.database("training-deployer") as database:
        after = _splits(table, database)
        assert all(after[key] == split for key, split in before.items())
        assert len(after) == 669
        counts = json.loads(database.value("SELECT split_rows FROM {schema}.dataset ORDER BY selected_at DESC LIMIT 1"))
        assert counts == {split: list(after.values()).count(split) for split in counts}
        database.query(f"DELETE FROM {TABLE} WHERE id > 1000")  # noqa: S608
    assert re.search(r"promote_model: version 2 (now holds|is not promoted: its accuracy .* worse than)", output)


def _splits(table: Project, database: Database) -> dict[int, str]:
    """Return {id: split} by the rule in docs/reference/data.md."""
    rows = database.query(f"SELECT id, hashtextextended(id::text, 0) FROM {TABLE}")  # noqa: S608
    shares = {key: (digest + 2**63) / 2**64 for key, digest in rows}
    return {k: "holdout" if s < 0.1 else "validation" if s < 0.2 else "train" for k, s in shares.items()}


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("table", "none", "source.table is 'none'; the schema public of "),
        ("label", "mean_radius", " of class 6.981 none is in the "),
        ("features", "mean_radius,", "source.features has a comma without a name"),
    ],
)
def test_a_wrong_source_is_refused_before_anything_is_written(
    table: Project, part: str, value: str, message: str
) -> None:
    """Each mistake in project.yaml fails the first step with one line; the project's own tests cover more."""
    path = table.folder / "project.yaml"
    text = path.read_text(encoding="utf-8")
    answers = yaml.safe_load(text)
    answers["source"][part] = value
    answers["projectName"] = "breast-cancer-wrong"
    try:
        path.write_text(yaml.safe_dump(answers), encoding="utf-8")
        sentence = table.refuses("deploy_training_code")
        with table.database("training-deployer") as database:
            schemas = database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'breast_cancer_wrong'")
    finally:
        path.write_text(text, encoding="utf-8")
    assert message in sentence
    assert schemas == 0


@pytest.mark.usefixtures("first")
def test_experiments_on_a_table(table: Project) -> None:
    """Learning curves, training in memory and searches work as they do on images.

    Smaller blocks let a small table have shares.
    """
    path = table.folder / "project.yaml"
    text = path.read_text(encoding="utf-8")
    space = {"method": "grid", "number": 2, "seed": 1, "parameters": {"epochs": [3], "learning_rate": [1e-6, 0.01]}}
    path.write_text(yaml.safe_dump({**yaml.safe_load(text), "search": space}), encoding="utf-8")
    once = ("--epochs", "3", "--run", "7")
    try:
        output = table.pipeline(
            *("upload_dataset", "--rows_per_block", "64", "learning_curve", "--shares", "0.25,1", *once),
            *("train_model", *once, "train_model", *once, "--where", "memory", "search", "--sessions", "1"),
            "evaluate_model",
        ).stdout
    finally:
        path.write_text(text, encoding="utf-8")
    with table.database("trainer") as trainer:
        rows = json.loads(trainer.value("SELECT split_rows FROM {schema}.dataset ORDER BY selected_at DESC LIMIT 1"))
        inside, outside = (
            trainer.query(
                "SELECT epoch, train_loss, val_loss FROM {schema}.training_epoch INNER JOIN {schema}.training_run "
                "USING (run_hash) WHERE parameters::jsonb @> '{\"run\": 7}' AND parameters::jsonb ? 'where' = %s "
                "AND NOT parameters::jsonb ? 'batch_id_below' ORDER BY epoch",
                (in_memory,),
            )
            for in_memory in (False, True)
        )
        best = trainer.value(
            "SELECT parameters::json ->> 'learning_rate' FROM {schema}.training_run "
            "WHERE status = 'finished' ORDER BY selected_at DESC LIMIT 1"
        )
    shown = [int(count.replace(",", "")) for count in re.findall(r"^ *([\d,]+) rows ", output, re.MULTILINE)]
    assert shown[1] == rows["train"]
    assert 0.25 * rows["train"] <= shown[0] < 0.25 * rows["train"] + 100
    assert len(inside) == 3
    assert outside == [pytest.approx(row, rel=1e-2) for row in inside]
    assert "best is 2 (learning_rate 0.01)" in output
    assert float(best) == 0.01
