--liquibase formatted sql

--changeset project:labelled_row_subject
-- subject gave the label, asked_by sent the row. collect_labels deletes rows whose label was refused or is too old.
ALTER TABLE "${schema}".labelled_row ADD COLUMN subject text NOT NULL DEFAULT 'unknown';
ALTER TABLE "${schema}".labelled_row ADD COLUMN asked_by text NOT NULL DEFAULT 'unknown';
GRANT DELETE ON "${schema}".labelled_row TO "${schema}_trainer";
/* liquibase rollback
REVOKE DELETE ON "${schema}".labelled_row FROM "${schema}_trainer";
ALTER TABLE "${schema}".labelled_row DROP COLUMN asked_by;
ALTER TABLE "${schema}".labelled_row DROP COLUMN subject;
*/

--changeset project:dataset_labelled_row
-- The labelled rows in each data set: `erase` finds them here after labelled_row lost them.
CREATE TABLE "${schema}".dataset_labelled_row (
    dataset text NOT NULL,
    prediction_id text NOT NULL,
    subject text NOT NULL,
    asked_by text NOT NULL,
    PRIMARY KEY (dataset, prediction_id)
) ${distributed_by_prediction_id};
ALTER TABLE "${schema}".dataset_labelled_row OWNER TO "${schema}_owner";
GRANT SELECT, INSERT ON "${schema}".dataset_labelled_row TO "${schema}_trainer";
-- Nobody knows which of the earlier data sets hold which rows.
INSERT INTO "${schema}".dataset_labelled_row (dataset, prediction_id, subject, asked_by)
SELECT d.dataset, r.prediction_id, r.subject, r.asked_by
FROM "${schema}".dataset AS d
CROSS JOIN "${schema}".labelled_row AS r;
--rollback DROP TABLE "${schema}".dataset_labelled_row;

--changeset project:dataset_erased_at
-- The time at which `erase` deleted the blocks of a data set with an erased row. upload_dataset packs it anew.
ALTER TABLE "${schema}".dataset ADD COLUMN erased_at timestamptz;
--rollback ALTER TABLE "${schema}".dataset DROP COLUMN erased_at;

--changeset project:feedback_split
-- Labelled rows that no training sees form a split of their own: they may veto a promotion, and never decide one.
ALTER TABLE "${schema}".dataset_batch DROP CONSTRAINT dataset_batch_split_check;
ALTER TABLE "${schema}".dataset_batch ADD CONSTRAINT dataset_batch_split_check
CHECK (split IN ('train', 'validation', 'holdout', 'feedback'));
/* liquibase rollback
ALTER TABLE "${schema}".dataset_batch DROP CONSTRAINT dataset_batch_split_check;
ALTER TABLE "${schema}".dataset_batch ADD CONSTRAINT dataset_batch_split_check
    CHECK (split IN ('train', 'validation', 'holdout')) NOT VALID;
*/
