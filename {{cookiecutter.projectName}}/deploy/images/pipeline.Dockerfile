# What a step of the pipeline runs in: the environment of requirements/pipeline.txt, Liquibase and git. The project's
# code is not in it: a step works in a checkout. So it is built anew when the lock file changes, not with every commit.
#   docker build --file deploy/images/pipeline.Dockerfile --tag REGISTRY/NAME-pipeline:VERSION .

# Debian 12; its digest may be named too: …@sha256:….
ARG BASE=docker.io/library/debian:12.15-slim

FROM ${BASE} AS system
# Java's package wants a folder that slim images lack. Debian's stable archive changes a package for its security alone
# and keeps no older version to pin.
# hadolint ignore=DL3008
RUN mkdir -p /usr/share/man/man1 \
    && apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates default-jre-headless git python3 \
    && rm -rf /var/lib/apt/lists/*

FROM ${BASE} AS liquibase
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates npm \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/liquibase
COPY local/package.json local/package-lock.json /build/
# Kept of it is what local/environments.py keeps: what runs with PostgreSQL. A command then starts in a second.
RUN npm ci --prefix /build --ignore-scripts --no-audit --no-fund \
    && mv /build/node_modules/liquibase/dist/liquibase/* . \
    && find . -mindepth 1 -maxdepth 1 ! -name internal ! -name licenses ! -name liquibase ! -name LICENSE.txt \
    -exec rm -r {} + \
    && find internal/lib -mindepth 1 ! -name 'liquibase-core*' ! -name 'picocli*' ! -name 'snakeyaml*' \
    ! -name 'commons-*' ! -name 'opencsv*' ! -name 'jaxb-*' ! -name 'postgresql*' -exec rm -r {} + \
    && chmod 755 liquibase

FROM system AS environment
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --without-pip /opt/environment
COPY requirements/pipeline.txt /opt/environment/requirements.txt
# Compiled here, for the file system is read-only where it runs: a step then starts in half the time. TensorFlow's
# headers, 290 MB, are for compiling against it.
RUN python3 -m pip --python /opt/environment/bin/python install --no-cache-dir --no-deps --require-hashes --compile \
    --requirement /opt/environment/requirements.txt \
    && rm -r /opt/environment/lib/python3*/site-packages/tensorflow/include

FROM system
COPY --from=liquibase /opt/liquibase /opt/liquibase
COPY --from=environment /opt/environment /opt/environment
# A step compares ENVIRONMENT_LOCK with the lock file of its checkout.
ENV ENVIRONMENT_LOCK=/opt/environment/requirements.txt \
    PATH=/opt/environment/bin:/opt/liquibase:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
USER 10001:10001
WORKDIR /source
CMD ["python", "-m", "pipeline", "--help"]
