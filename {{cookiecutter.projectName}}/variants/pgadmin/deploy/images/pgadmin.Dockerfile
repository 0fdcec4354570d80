# pgAdmin with both databases in its list, behind its own login: `python -m pgadmin serve`. The file
# pgadmin.Dockerfile.dockerignore lists the files that the builder receives.
#   docker build --file deploy/images/pgadmin.Dockerfile --tag REGISTRY/NAME-pgadmin:VERSION .

# Debian 12. A digest pins it: …@sha256:….
ARG BASE=docker.io/library/debian:12.15-slim

FROM ${BASE} AS system
# Debian's stable archive replaces a package by its security fix and keeps no older version, so no version is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*

FROM system AS environment
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --without-pip /opt/environment
COPY requirements/pgadmin.txt /opt/environment/requirements.txt
# Compiled here, because the file system is read-only at run time.
RUN python3 -m pip --python /opt/environment/bin/python install --no-cache-dir --no-deps --require-hashes --compile \
    --requirement /opt/environment/requirements.txt

FROM system
COPY --from=environment /opt/environment /opt/environment
COPY project.yaml /opt/project/
# The module that reads the service bindings.
COPY pipeline/__init__.py pipeline/databases.py pipeline/errors.py pipeline/settings.py /opt/project/pipeline/
COPY local/__init__.py local/errors.py local/processes.py local/progress.py local/state.py /opt/project/local/
COPY pgadmin/__main__.py pgadmin/config_distro.py pgadmin/servers.py /opt/project/pgadmin/
ENV PATH=/opt/environment/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PGADMIN_DATA=/tmp/pgadmin \
    HOME=/tmp
USER 10001:10001
WORKDIR /opt/project
EXPOSE 8080
CMD ["python", "-m", "pgadmin", "serve"]
