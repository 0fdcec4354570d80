--liquibase formatted sql

--changeset project:label_review
-- What review_labels and revoke_labels decided about a label; a label without a row waits for review.
CREATE TABLE "${schema}".label_review (
    label_id bigint NOT NULL PRIMARY KEY
    REFERENCES "${schema}".prediction_label (label_id) ON DELETE CASCADE,
    verdict text NOT NULL CHECK (verdict IN ('accepted', 'refused')),
    reviewed_by text NOT NULL,
    reviewed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE "${schema}".label_review OWNER TO "${schema}_owner";
--rollback DROP TABLE "${schema}".label_review;

--changeset project:labelled_prediction_with_review
-- Labelled predictions, each with its last label that nobody refused.
CREATE OR REPLACE VIEW "${schema}".labelled_prediction AS
SELECT DISTINCT ON (l.prediction_id)
    l.prediction_id,
    p.model,
    p.version,
    p.label AS predicted_label,
    l.label,
    l.labelled_at,
    p.input
FROM "${schema}".prediction_label AS l
INNER JOIN "${schema}".prediction_log AS p ON l.prediction_id = p.prediction_id
LEFT JOIN "${schema}".label_review AS r ON l.label_id = r.label_id
WHERE r.verdict IS DISTINCT FROM 'refused'
ORDER BY l.prediction_id ASC, l.label_id DESC;
/* liquibase rollback
CREATE OR REPLACE VIEW "${schema}".labelled_prediction AS
    SELECT DISTINCT ON (l.prediction_id)
        l.prediction_id, p.model, p.version, p.label AS predicted_label, l.label, l.labelled_at, p.input
    FROM "${schema}".prediction_label AS l
    INNER JOIN "${schema}".prediction_log AS p ON l.prediction_id = p.prediction_id
    ORDER BY l.prediction_id ASC, l.label_id DESC;
*/

--changeset project:label_status
-- Every label with its subject, its prediction and its verdict: accepted, refused or waiting.
CREATE VIEW "${schema}".label_status AS
SELECT
    l.label_id,
    l.prediction_id,
    p.model,
    p.version,
    coalesce(p.subject, 'unknown') AS asked_by,
    coalesce(l.subject, 'unknown') AS subject,
    p.label AS predicted_label,
    (SELECT max(u.probability) FROM unnest(p.probabilities) AS u (probability)) AS confidence,
    l.label,
    l.labelled_at,
    coalesce(r.verdict, 'waiting') AS verdict,
    p.input
FROM "${schema}".prediction_label AS l
INNER JOIN "${schema}".prediction_log AS p ON l.prediction_id = p.prediction_id
LEFT JOIN "${schema}".label_review AS r ON l.label_id = r.label_id;
ALTER VIEW "${schema}".label_status OWNER TO "${schema}_owner";
--rollback DROP VIEW "${schema}".label_status;
