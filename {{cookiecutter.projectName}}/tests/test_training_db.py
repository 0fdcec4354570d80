"""Rows of the training database that the trainer's login may have changed."""

import pytest

from pipeline import training_db
from pipeline.errors import StepError

ROW = ("d", "0a", "8,8,1", "uint8", '["a", "b"]', '{"train": 2}', '{"rows": 2}', None)


@pytest.mark.parametrize(
    ("place", "value"), [(2, "8,x"), (2, None), (4, '{"a"'), (4, None), (5, ""), (6, "NULL"), (7, "{")]
)
def test_a_row_that_no_step_wrote_is_one_sentence(monkeypatch, place: int, value: object) -> None:
    rows = [ROW]
    monkeypatch.setattr(training_db, "query", lambda *_: rows)
    assert training_db.current_data(None).shape == (8, 8, 1)
    rows[0] = tuple(value if number == place else part for number, part in enumerate(ROW))
    with pytest.raises(StepError, match="table dataset has a row that no step wrote") as refused:
        training_db.current_data(None)
    assert "\n" not in str(refused.value)
