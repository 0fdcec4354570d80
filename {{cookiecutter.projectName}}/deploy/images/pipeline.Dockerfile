# The image of the pipeline's steps: the environment of requirements/pipeline.txt, Liquibase and git. A step works in a
# checkout of the project's code, so a changed lock file needs a new image and a commit does not.
#   docker build --file deploy/images/pipeline.Dockerfile --tag REGISTRY/NAME-pipeline:VERSION .

# Debian 12. A digest pins it: …@sha256:….
ARG BASE=docker.io/library/debian:12.15-slim

FROM ${BASE} AS system
# Java's package needs a folder that slim images lack. Debian's stable archive replaces a package by its security fix
# and keeps no older version, so no version is pinned.
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
# Liquibase keeps the files that local/environments.py keeps, those for PostgreSQL: a command then starts in a second.
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
# Compiled here, because the file system is read-only at run time: a step then starts in half the time. Only programs
# that are compiled against TensorFlow need its headers, 290 MB.
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
