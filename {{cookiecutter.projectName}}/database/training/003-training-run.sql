--liquibase formatted sql

--changeset project:model_architecture
-- Architectures built by model.py, as Keras JSON; train_model trains the one with the newest deployed_at.
CREATE TABLE "${schema}".model_architecture (
    architecture_hash text NOT NULL PRIMARY KEY,
    architecture text NOT NULL,
    shape text NOT NULL,
    classes int NOT NULL,
    weight_count int NOT NULL,
    git_commit text NOT NULL,
    deployed_at timestamptz NOT NULL DEFAULT clock_timestamp()
) ${replicated};
ALTER TABLE "${schema}".model_architecture OWNER TO "${schema}_owner";
GRANT SELECT ON "${schema}".model_architecture TO "${schema}_trainer";
--rollback DROP TABLE "${schema}".model_architecture;

--changeset project:training_run
-- run_hash covers the data, the architecture, the hyper-parameters (with epochs and seed) and the run number.
CREATE TABLE "${schema}".training_run (
    run_hash text NOT NULL PRIMARY KEY,
    dataset text NOT NULL,
    data_hash text NOT NULL,
    architecture_hash text NOT NULL,
    parameters text NOT NULL,
    optimizer text NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'finished', 'failed')),
    error text,
    best_epoch int,
    git_commit text NOT NULL,
    mlflow_run text,
    started_at timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    selected_at timestamptz NOT NULL DEFAULT clock_timestamp()
) ${distributed_by_run_hash};
ALTER TABLE "${schema}".training_run OWNER TO "${schema}_owner";
GRANT SELECT, INSERT, UPDATE ON "${schema}".training_run TO "${schema}_trainer";
--rollback DROP TABLE "${schema}".training_run;

--changeset project:training_epoch
-- One checkpoint per epoch. The best and the last epoch keep their weights, the last one the optimizer's slots.
CREATE TABLE "${schema}".training_epoch (
    run_hash text NOT NULL,
    epoch int NOT NULL CHECK (epoch > 0),
    train_loss float8 NOT NULL,
    train_accuracy float8 NOT NULL,
    val_loss float8 NOT NULL,
    val_accuracy float8 NOT NULL,
    seconds float8 NOT NULL,
    weights bytea,
    optimizer_slots bytea,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_hash, epoch)
) ${distributed_by_run_hash};
ALTER TABLE "${schema}".training_epoch ALTER COLUMN weights SET STORAGE EXTERNAL;
ALTER TABLE "${schema}".training_epoch ALTER COLUMN optimizer_slots SET STORAGE EXTERNAL;
ALTER TABLE "${schema}".training_epoch OWNER TO "${schema}_owner";
GRANT SELECT, INSERT, UPDATE ON "${schema}".training_epoch TO "${schema}_trainer";
--rollback DROP TABLE "${schema}".training_epoch;
