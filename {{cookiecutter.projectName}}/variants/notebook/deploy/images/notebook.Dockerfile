# The image of a person's server of JupyterHub: the environment of requirements/notebook.txt, and git, because the
# project is a clone in the person's home. It has neither Java nor Liquibase: notebooks have no right to deploy.
#   docker build --file deploy/images/notebook.Dockerfile --tag REGISTRY/NAME-notebook:VERSION .

# Debian 12. A digest pins it: …@sha256:….
ARG BASE=docker.io/library/debian:12.15-slim

FROM ${BASE} AS system
# User, group and home are those of a pod of JupyterHub's chart, which mounts the person's volume as the home. Debian's
# stable archive replaces a package by its security fix and keeps no older version, so no version is pinned.
# hadolint ignore=DL3008
RUN useradd --uid 1000 --gid users --home-dir /home/jovyan --create-home --shell /bin/bash jovyan \
    && apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git python3 \
    && rm -rf /var/lib/apt/lists/*

FROM system AS environment
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --without-pip /opt/environment
# notebook.txt includes the packages of pipeline.txt, in the same versions.
COPY requirements/notebook.txt requirements/pipeline.txt /opt/environment/
# Compiled here, because nobody may write there at run time. Only programs that are compiled against TensorFlow need its
# headers, 290 MB.
RUN python3 -m pip --python /opt/environment/bin/python install --no-cache-dir --no-deps --require-hashes --compile \
    --requirement /opt/environment/notebook.txt \
    && rm -r /opt/environment/lib/python3*/site-packages/tensorflow/include

FROM system
COPY --from=environment /opt/environment /opt/environment
# A step compares ENVIRONMENT_LOCK with the lock file of its checkout.
ENV ENVIRONMENT_LOCK=/opt/environment/pipeline.txt \
    IMAGE_NAMED_IN="deploy/jupyterhub/values.yaml (singleuser.image)" \
    PATH=/opt/environment/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/home/jovyan
USER 1000:100
WORKDIR /home/jovyan
EXPOSE 8888
CMD ["jupyterhub-singleuser"]
