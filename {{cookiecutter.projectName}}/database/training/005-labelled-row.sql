--liquibase formatted sql

--changeset project:labelled_row
-- Predictions that people labelled, copied from the inference database by collect_labels: upload_dataset adds them to
-- the rows of dataset.py.
CREATE TABLE "${schema}".labelled_row (
    prediction_id text NOT NULL PRIMARY KEY,
    features bytea NOT NULL,
    shape text NOT NULL,
    dtype text NOT NULL,
    label text NOT NULL,
    labelled_at timestamptz NOT NULL
) ${distributed_by_prediction_id};
ALTER TABLE "${schema}".labelled_row OWNER TO "${schema}_owner";
GRANT SELECT, INSERT, UPDATE ON "${schema}".labelled_row TO "${schema}_trainer";
--rollback DROP TABLE "${schema}".labelled_row;
