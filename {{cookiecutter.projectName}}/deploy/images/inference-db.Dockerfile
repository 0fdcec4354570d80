# An inference database: PostgreSQL with PL/Python and the packages of requirements/inference-db.txt.
# Its entry point, inference-db.sh, documents its variables. The container writes only to its volume and to /tmp.
#   docker build --file deploy/images/inference-db.Dockerfile --tag REGISTRY/NAME-inference-db:VERSION .

# Debian 12. A digest pins it: …@sha256:….
ARG BASE=docker.io/library/debian:12.15-slim

FROM ${BASE} AS system
# The server's user has a fixed number, so that volumes can belong to it. The package creates no cluster, and its public
# example key is removed. Debian's stable archive replaces a package by its security fix and keeps no older version, so
# no version is pinned.
# hadolint ignore=DL3008
RUN groupadd --gid 10001 postgres \
    && useradd --uid 10001 --gid postgres --home-dir /var/lib/postgresql --no-create-home --shell /bin/sh postgres \
    && mkdir -p /etc/postgresql-common/createcluster.d \
    && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/image.conf \
    && apt-get update \
    && apt-get install --yes --no-install-recommends postgresql-15 postgresql-plpython3-15 python3 \
    && rm -rf /var/lib/apt/lists/* /etc/ssl/certs/ssl-cert-snakeoil.pem /etc/ssl/private/ssl-cert-snakeoil.key

FROM system AS environment
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --without-pip /opt/environment
COPY requirements/inference-db.txt /opt/environment/requirements.txt
# Compiled here, because the file system is read-only at run time.
RUN python3 -m pip --python /opt/environment/bin/python install --no-cache-dir --no-deps --require-hashes --compile \
    --requirement /opt/environment/requirements.txt

FROM system
COPY --from=environment /opt/environment /opt/environment
COPY deploy/images/inference-db.sh /usr/local/bin/
# PL/Python finds the packages by PYTHONEXECUTABLE.
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin \
    PGDATA=/var/lib/postgresql/15/data \
    PYTHONEXECUTABLE=/opt/environment/bin/python \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1 \
    HOME=/tmp
USER 10001:10001
WORKDIR /var/lib/postgresql
VOLUME ["/var/lib/postgresql"]
EXPOSE 5432
# PostgreSQL's fast shutdown: the server ends sessions instead of waiting for them.
STOPSIGNAL SIGINT
ENTRYPOINT ["inference-db.sh"]
