"""A table that cannot be trained on is refused with one sentence."""

import pytest
from source_table import MAKE, Place

from pipeline.errors import StepError


@pytest.fixture(name="place")
def _place(deployed, monkeypatch):
    place = Place(monkeypatch)
    yield place
    place.end()


WRONG = {
    "no schema": ("", {"schema": "nowhere"}, "source.schema is 'nowhere'; postgresql"),
    "no table": ("", {"table": "none"}, "source.table is 'none'; the schema test source of"),
    "no label column": ("", {"label": "none"}, "source.label names 'none'; "),
    "no feature column": ("", {"features": ("id", "none")}, "source.features names 'none'; "),
    "no key column": ("", {"key": ("none",)}, "source.key names 'none'; "),
    "label as feature": ("", {"features": ("id", "outcome")}, "source.features names outcome, which is the label"),
    "label as key": ("", {"key": ("outcome",)}, "among it the label: a corrected label would move"),
    "nothing left": (
        'ALTER TABLE {table} DROP "{schema} %s", DROP "height, in %", DROP smoker, DROP home', {},
        "has no column but the label and the key",
    ),
    "empty": ("DELETE FROM {table}", {}, "is empty"),
    "NULL label": ("UPDATE {table} SET outcome = NULL WHERE id < 8", {}, "the label outcome is NULL in 7 rows"),
    "NaN label": (
        "ALTER TABLE {table} ALTER outcome TYPE float8; UPDATE {table} SET outcome = 'NaN' WHERE id < 4", {},
        "the label outcome is NaN in some rows",
    ),
    "label in the primary key": (
        "ALTER TABLE {table} DROP CONSTRAINT \"a \"\"table\"\", 100 %_pkey\", ADD PRIMARY KEY (id, outcome)", {},
        "the key of test source.a \"table\", 100 % is id, outcome, among it the label",
    ),
    "one class": ("UPDATE {table} SET outcome = 9", {}, "the label outcome is 9 in every row"),
    "many classes": ("UPDATE {table} SET outcome = id", {}, "has more than 1,000 different values"),
    "rare class": (
        "UPDATE {table} SET outcome = 11 WHERE id < 3", {}, "of the 2 rows of class 11 none is in the ",
    ),
    "type": (
        "ALTER TABLE {table} ADD born date", {},
        "the column born is of type date, which has no encoding (allowed are smallint, ",
    ),
    "texts": (
        "ALTER TABLE {table} ALTER home TYPE text; UPDATE {table} SET home = id", {},
        "the column home has more than 50 different texts",
    ),
    "NaN": (
        "UPDATE {table} SET \"{schema} %s\" = 'NaN' WHERE id = 7", {}, "the column {schema} %s holds NaN or infinity",
    ),
    "infinity": (
        "ALTER TABLE {table} ALTER smoker TYPE float8 USING id; UPDATE {table} SET smoker = '-Infinity' WHERE id = 8",
        {},
        "the column smoker holds NaN or infinity",
    ),
    "too large": (
        "ALTER TABLE {table} ALTER smoker TYPE float8 USING 1e308 * (-1) ^ id", {}, "too large to take a mean of",
    ),
    "no values": (
        "UPDATE {table} SET home = NULL", {"features": ("home",)},
        "no column to predict from has a value in the training rows",
    ),
    "key with NULL": ("", {"key": ("smoker",)}, "source.key is smoker; 600 rows of "),
    "key that repeats": ("", {"key": ("outcome_2",)}, "several rows of "),
}  # fmt: skip


@pytest.mark.servers
@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_trained_on_is_refused_with_one_sentence(place, wrong) -> None:
    statement, named, message = WRONG[wrong]
    place.made()
    if "outcome_2" in named.get("key", ()):
        statement = "ALTER TABLE {table} ADD outcome_2 int DEFAULT 1"
    if statement:
        place.run(statement)
    place.name(**named)
    with pytest.raises(StepError) as refused:
        place.examine()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.servers
def test_a_table_that_the_trainer_may_not_read_is_refused(place) -> None:
    place.run(MAKE)
    with pytest.raises(StepError, match=r"may not read .*deploy_training_db grants it"):
        place.pack()
