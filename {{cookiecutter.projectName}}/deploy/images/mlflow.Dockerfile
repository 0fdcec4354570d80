# A tracking server: MLflow with the clients of its two stores, PostgreSQL and S3. deploy/mlflow runs it.
#   docker build --file deploy/images/mlflow.Dockerfile --tag REGISTRY/mlflow:VERSION .

# Debian 12. A digest pins it: …@sha256:….
ARG BASE=docker.io/library/debian:12.15-slim

FROM ${BASE} AS system
# Debian's stable archive replaces a package by its security fix and keeps no older version, so no version is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*

FROM system AS environment
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --without-pip /opt/environment
COPY requirements/mlflow-server.txt /opt/environment/requirements.txt
# Compiled here, because the file system is read-only at run time.
RUN python3 -m pip --python /opt/environment/bin/python install --no-cache-dir --no-deps --require-hashes --compile \
    --requirement /opt/environment/requirements.txt

FROM system
COPY --from=environment /opt/environment /opt/environment
COPY deploy/mlflow/check_stores.py /opt/mlflow/
ENV PATH=/opt/environment/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
USER 10001:10001
WORKDIR /tmp
EXPOSE 5000
CMD ["mlflow", "server", "--help"]
