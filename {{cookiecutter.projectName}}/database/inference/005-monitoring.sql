--liquibase formatted sql

--changeset project:prediction_label
-- Feedback, append-only: the last label of a prediction counts.
CREATE TABLE "${schema}".prediction_label (
    label_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prediction_id uuid NOT NULL,
    label text NOT NULL,
    labelled_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX prediction_label_prediction_id ON "${schema}".prediction_label (prediction_id);
ALTER TABLE "${schema}".prediction_label OWNER TO "${schema}_owner";
--rollback DROP TABLE "${schema}".prediction_label;

--changeset project:record_label splitStatements:false stripComments:false
-- Records a person's label. Returns {prediction_id, label, predicted_label, model, version}.
CREATE FUNCTION "${schema}".record_label(prediction uuid, label text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    predicted record;
BEGIN
    SELECT p.label, p.model, p.version, v.classes INTO predicted
    FROM "${schema}".prediction_log AS p
    INNER JOIN "${schema}".model_version AS v ON p.model = v.model AND p.version = v.version
    WHERE p.prediction_id = record_label.prediction;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no prediction %', prediction USING ERRCODE = 'no_data_found';
    END IF;
    IF label IS NULL OR label <> ALL (predicted.classes) THEN
        RAISE EXCEPTION 'the label "%" is none of the classes; allowed is one of %',
        left(label, 60), array_to_string(predicted.classes, ', ')
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO "${schema}".prediction_label (prediction_id, label) VALUES (prediction, label);
    RETURN jsonb_build_object(
        'prediction_id', prediction, 'label', label, 'predicted_label', predicted.label,
        'model', predicted.model, 'version', predicted.version
    );
END
$$;
ALTER FUNCTION "${schema}".record_label(uuid, text) OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".record_label(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "${schema}".record_label(uuid, text) TO "${schema}_app";
--rollback DROP FUNCTION "${schema}".record_label(uuid, text);

--changeset project:labelled_prediction
-- Labelled predictions, each with its last label: for collect_labels; the app may not read them.
CREATE VIEW "${schema}".labelled_prediction AS
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
ORDER BY l.prediction_id ASC, l.label_id DESC;
ALTER VIEW "${schema}".labelled_prediction OWNER TO "${schema}_owner";
--rollback DROP VIEW "${schema}".labelled_prediction;

--changeset project:accuracy_window
-- One row per labelled prediction: the accuracy of its version over the last window_size labelled predictions.
CREATE VIEW "${schema}".accuracy_window AS
WITH numbered AS NOT MATERIALIZED (
    SELECT
        model,
        version,
        labelled_at,
        row_number() OVER earlier AS position,
        sum(CASE WHEN label = predicted_label THEN 1 ELSE 0 END) OVER earlier AS correct
    FROM "${schema}".labelled_prediction
    WINDOW earlier AS (PARTITION BY model, version ORDER BY labelled_at, prediction_id)
)

SELECT
    n.model,
    n.version,
    n.labelled_at,
    least(n.position, s.window_size) AS labelled,
    (n.correct - coalesce(b.correct, 0))::float8 / least(n.position, s.window_size) AS accuracy
FROM numbered AS n
CROSS JOIN "${schema}".setting AS s
LEFT JOIN numbered AS b ON n.model = b.model AND n.version = b.version AND n.position - s.window_size = b.position;
ALTER VIEW "${schema}".accuracy_window OWNER TO "${schema}_owner";
GRANT SELECT ON "${schema}".accuracy_window TO "${schema}_app";
--rollback DROP VIEW "${schema}".accuracy_window;

--changeset project:drift
-- The population stability index (PSI) of each version's last window_size predictions against its training rows:
-- sum((actual - expected) * ln(actual / expected)) over the bins, which are the classes or the tenths of a statistic.
-- Each bin gets half a row more, so that an empty bin does not make the index infinite. (Nothing is materialized, so
-- that a query for one version does not wait for all.)
CREATE VIEW "${schema}".drift AS
WITH recent AS NOT MATERIALIZED (
    SELECT v.model, v.version, p.label, p.statistics
    FROM "${schema}".model_version AS v
    CROSS JOIN LATERAL (
        SELECT l.label, l.statistics FROM "${schema}".prediction_log AS l
        WHERE l.model = v.model AND l.version = v.version
        ORDER BY l.predicted_at DESC
        LIMIT (SELECT s.window_size FROM "${schema}".setting AS s)
    ) AS p
),

statistic AS NOT MATERIALIZED (
    SELECT
        v.model,
        v.version,
        i.position,
        i.described ->> 'statistic' AS statistic,
        i.described -> 'counts' AS counts,
        array(SELECT e.edge::real FROM jsonb_array_elements_text(i.described -> 'edges') AS e (edge)) AS edges
    FROM "${schema}".model_version AS v
    CROSS JOIN LATERAL jsonb_array_elements(v.training_statistics -> 'inputs') WITH ORDINALITY AS i (described, position)
),

bin AS (
    SELECT
        v.model, v.version, 'class' AS statistic, c.position - 1 AS number,
        (v.training_statistics -> 'class_counts' ->> (c.position - 1)::int)::float8 AS expected
    FROM "${schema}".model_version AS v
    CROSS JOIN LATERAL unnest(v.classes) WITH ORDINALITY AS c (label, position)
    UNION ALL
    SELECT s.model, s.version, s.statistic, c.position - 1, c.rows::float8
    FROM statistic AS s
    CROSS JOIN LATERAL jsonb_array_elements_text(s.counts) WITH ORDINALITY AS c (rows, position)
),

observed AS (
    SELECT r.model, r.version, 'class' AS statistic, array_position(v.classes, r.label) - 1 AS number
    FROM recent AS r
    INNER JOIN "${schema}".model_version AS v ON r.model = v.model AND r.version = v.version
    UNION ALL
    SELECT r.model, r.version, s.statistic, width_bucket(r.statistics[s.position], s.edges)
    FROM recent AS r
    INNER JOIN statistic AS s ON r.model = s.model AND r.version = s.version
    WHERE r.statistics[s.position] IS NOT NULL
),

counted AS (
    SELECT model, version, statistic, number, count(*) AS actual
    FROM observed
    GROUP BY model, version, statistic, number
),

compared AS (
    SELECT
        b.model,
        b.version,
        b.statistic,
        coalesce(c.actual, 0) AS actual,
        (coalesce(c.actual, 0) + 0.5) / sum(coalesce(c.actual, 0) + 0.5) OVER bins AS actual_share,
        (b.expected + 0.5) / sum(b.expected + 0.5) OVER bins AS expected_share
    FROM bin AS b
    LEFT JOIN counted AS c
        ON b.model = c.model AND b.version = c.version AND b.statistic = c.statistic AND b.number = c.number
    WINDOW bins AS (PARTITION BY b.model, b.version, b.statistic)
)

SELECT
    model,
    version,
    statistic,
    sum(actual)::bigint AS predictions,
    sum((actual_share - expected_share) * ln(actual_share / expected_share))::float8 AS psi
FROM compared
GROUP BY model, version, statistic
HAVING sum(actual) > 0;
ALTER VIEW "${schema}".drift OWNER TO "${schema}_owner";
GRANT SELECT ON "${schema}".drift TO "${schema}_app";
--rollback DROP VIEW "${schema}".drift;

--changeset project:purge_predictions splitStatements:false stripComments:false
-- Deletes predictions older than the retention, and labels without a prediction; returns the number of predictions.
-- monitor_model and deploy_inference_db call it; an administrator may schedule it as well.
CREATE FUNCTION "${schema}".purge_predictions()
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    purged bigint;
BEGIN
    DELETE FROM "${schema}".prediction_log
    WHERE predicted_at < now() - (SELECT make_interval(days => s.retention_days) FROM "${schema}".setting AS s);
    GET DIAGNOSTICS purged = ROW_COUNT;
    DELETE FROM "${schema}".prediction_label AS l
    WHERE NOT EXISTS (SELECT 1 FROM "${schema}".prediction_log AS p WHERE p.prediction_id = l.prediction_id);
    RETURN purged;
END
$$;
ALTER FUNCTION "${schema}".purge_predictions() OWNER TO "${schema}_owner";
REVOKE ALL ON FUNCTION "${schema}".purge_predictions() FROM PUBLIC;
--rollback DROP FUNCTION "${schema}".purge_predictions();
