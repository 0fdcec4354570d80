"""A database that release 0.1.0 deployed is brought up to date, although its change sets have new texts."""

import contextlib
from collections.abc import Iterator

import psycopg2.extensions
import pytest

from pipeline import checksums, liquibase
from pipeline.databases import query, session
from pipeline.errors import StepError
from pipeline.settings import Settings

SCHEMA = "from_0_1_0"
# What 0.1.0 wrote into databasechangelog for this schema on PostgreSQL.
DEPLOYED = {
    "training": {
        "001-roles.sql::roles": "9:59da6254beddb92ce56066bcc4467e86",
        "002-dataset.sql::dataset": "9:b2f0b94e4963aa80e0834d01f6ef378a",
        "002-dataset.sql::dataset_batch": "9:96a4c1fcb1cc841fa83621d93295cd45",
        "003-training-run.sql::model_architecture": "9:83156b8a099268bd0d838a5c84ac7764",
        "003-training-run.sql::training_run": "9:c98dcdecc37953a03682e68155a8ad32",
        "003-training-run.sql::training_epoch": "9:0c17e064f4ce1204c530121173a0c4fe",
        "004-fit-and-evaluate.sql::model_transition": "9:73bfcc30ce10ae784b7a68318d3c4c81",
        "004-fit-and-evaluate.sql::model_combine": "9:1e3f310a3e1703d0a295ebec1ae9e440",
        "004-fit-and-evaluate.sql::evaluate_final": "9:608c2319d8e06762404ff78b915c0f01",
        "004-fit-and-evaluate.sql::fit": "9:61ba5ff8ebf2bb3bce06c769fd2efaa6",
        "004-fit-and-evaluate.sql::evaluate": "9:5fc2d8015a209905c532a9b12ba5ae71",
        "004-fit-and-evaluate.sql::fit_and_evaluate_rights": "9:452de8afef621b3cb43361e8eef32f76",
        "005-labelled-row.sql::labelled_row": "9:68a87efd92110f6d812dab95ba158d94",
    },
    "inference": {
        "001-roles.sql::roles": "9:b917a3693ccb467912e49a2c3c0440ed",
        "002-model.sql::model_version": "9:4a9f2eaa436b057a5fa8e263b907d255",
        "002-model.sql::model_alias": "9:b3c8d728f687fd5f313f70a87404fa92",
        "002-model.sql::model_alias_history": "9:e498b731e381101292ba6f706b2fb051",
        "002-model.sql::record_model_alias": "9:2cfaa013838cd60ecc2948fa4a306786",
        "002-model.sql::model_info": "9:44760e895b67e7d3891ada3738ab0965",
        "003-predict.sql::open_model": "9:2cb5d882b6390329cbd5eafb96309503",
        "003-predict.sql::answer_row": "9:f19c3ed5b254f3b29c42932d239276ce",
        "003-predict.sql::answer_batch": "9:3ebd9d5cf5c31dca0d9201f23db8fcb1",
        "003-predict.sql::as_real": "9:2c73fcb612a6b5d564ab663df4377de4",
        "003-predict.sql::predict_batch": "9:1addc888509e78a366caeb09af33b73f",
        "003-predict.sql::predict": "9:54e27655925680843e2eaa80594bec7d",
        "004-prediction-log.sql::setting": "9:e5c53a7f570096581d3633835a63ce47",
        "004-prediction-log.sql::prediction_log": "9:d3b04bd3b1bd71027321c7bba20658a0",
        "004-prediction-log.sql::row_statistics": "9:72cbfeb449bc82a71c1746f7727b5882",
        "004-prediction-log.sql::run_inference_task": "9:85d634bcf92714938881bed664f69735",
        "005-monitoring.sql::prediction_label": "9:53b7b307c6cf8c49cbf8fef19c918fb0",
        "005-monitoring.sql::record_label": "9:3f03be9f8ea275dc966a216fb6871f7a",
        "005-monitoring.sql::labelled_prediction": "9:0935b01664346c2bf7286c04e480ceb9",
        "005-monitoring.sql::accuracy_window": "9:c7e6db13014c9fb7d26385d804794cee",
        "005-monitoring.sql::drift": "9:95d88e342e3e3396b2ed79eb236e4fb2",
        "005-monitoring.sql::purge_predictions": "9:bd55a16aee9a50900437630fb057e9cc",
    },
}


@contextlib.contextmanager
def own_schema(database: str) -> Iterator[psycopg2.extensions.connection]:
    """Give a session; afterwards remove the schema and its roles, as a rollback of everything does."""
    connection = session(f"{database}-deployer")
    try:
        yield connection
        liquibase.run(f"{database}-deployer", f"database/{database}", "rollback", f"--tag={liquibase.EMPTY}")
    finally:
        with connection:
            query(connection, f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


def sums(connection: psycopg2.extensions.connection) -> dict[str, str]:
    """Return the checksum of each deployed change set, by file and id."""
    with connection:
        return dict(query(connection, "SELECT filename || '::' || id, md5sum FROM {schema}.databasechangelog"))


@pytest.mark.servers
@pytest.mark.parametrize("database", ["training", "inference"])
def test_the_checksums_of_0_1_0_are_accepted_once(monkeypatch, deployed, database) -> None:
    monkeypatch.setattr(Settings, "schema", property(lambda self: SCHEMA))
    name, folder = f"{database}-deployer", f"database/{database}"
    with own_schema(database) as connection:
        liquibase.deploy(name, folder)
        present = sums(connection)
        assert present.keys() > DEPLOYED[database].keys()
        with connection:
            query(connection, "DELETE FROM {schema}.databasechangelog WHERE id = %s", (checksums.MARKER,))
            for change, checksum in DEPLOYED[database].items():
                set_sum(connection, change, checksum)
        with pytest.raises(StepError, match="Validation Failed"):
            liquibase.run(name, folder, "update")
        liquibase.deploy(name, folder)
        assert sums(connection) == present
        # From then on a change of a deployed text is refused again.
        change, checksum = next(iter(DEPLOYED[database].items()))
        with connection:
            set_sum(connection, change, checksum)
        with pytest.raises(StepError, match="Validation Failed"):
            liquibase.deploy(name, folder)
        with connection:
            set_sum(connection, change, present[change])


def set_sum(connection: psycopg2.extensions.connection, change: str, checksum: str) -> None:
    """Write a checksum as Liquibase would."""
    query(
        connection,
        "UPDATE {schema}.databasechangelog SET md5sum = %s WHERE filename || '::' || id = %s",
        (checksum, change),
    )
