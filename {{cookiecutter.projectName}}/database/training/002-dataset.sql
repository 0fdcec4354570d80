--liquibase formatted sql

--changeset project:dataset
-- One row per packed data set; the hashes identify its content.
CREATE TABLE "${schema}".dataset (
    dataset text NOT NULL PRIMARY KEY,
    data_hash text NOT NULL,
    seed bigint NOT NULL,
    rows_per_block int NOT NULL,
    shape text NOT NULL,
    dtype text NOT NULL,
    classes text NOT NULL,
    split_rows text NOT NULL,
    training_statistics text NOT NULL,
    uploaded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    selected_at timestamptz NOT NULL DEFAULT clock_timestamp()
) ${replicated};
ALTER TABLE "${schema}".dataset OWNER TO "${schema}_owner";
GRANT SELECT, INSERT, UPDATE ON "${schema}".dataset TO "${schema}_trainer";
--rollback DROP TABLE "${schema}".dataset;

--changeset project:dataset_batch
-- Rows packed in blocks: features are raw bytes of the data set's dtype, row after row; labels are little-endian int32.
-- Images do not compress, so features are stored uncompressed.
CREATE TABLE "${schema}".dataset_batch (
    dataset text NOT NULL,
    split text NOT NULL CHECK (split IN ('train', 'validation', 'holdout')),
    batch_id int NOT NULL,
    row_count int NOT NULL CHECK (row_count > 0),
    features bytea NOT NULL,
    labels bytea NOT NULL,
    PRIMARY KEY (dataset, split, batch_id)
) ${distributed_by_batch_id};
ALTER TABLE "${schema}".dataset_batch ALTER COLUMN features SET STORAGE EXTERNAL;
ALTER TABLE "${schema}".dataset_batch OWNER TO "${schema}_owner";
GRANT SELECT, INSERT ON "${schema}".dataset_batch TO "${schema}_trainer";
--rollback DROP TABLE "${schema}".dataset_batch;
