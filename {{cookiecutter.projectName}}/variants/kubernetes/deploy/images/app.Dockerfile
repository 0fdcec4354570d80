# The app: APP_PROCESS=api serves predictions, APP_PROCESS=ui the page if the project has one.
#   docker build --file deploy/images/app.Dockerfile --tag REGISTRY/NAME-app:VERSION .

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
# ui.txt includes the packages of app.txt; a project without a page has no ui.txt.
COPY requirements/app.txt requirements/ui.tx[t] /opt/environment/
WORKDIR /opt/environment
# Compiled here, because the file system is read-only at run time.
RUN if [ -f ui.txt ]; then mv ui.txt requirements.txt && rm app.txt; else mv app.txt requirements.txt; fi \
    && python3 -m pip --python bin/python install --no-cache-dir --no-deps --require-hashes --compile \
    --requirement requirements.txt

FROM system
COPY --from=environment /opt/environment /opt/environment
COPY project.yaml /opt/project/
COPY app/ /opt/project/app/
ENV PATH=/opt/environment/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
USER 10001:10001
WORKDIR /opt/project
EXPOSE 8000 8501
CMD ["python", "-m", "app"]
