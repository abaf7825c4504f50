# A worker, for CPU and GPU alike: torch's wheels bring their own CUDA libraries, and the host hands the GPU in.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /var/lib/voxelight voxelight \
    && install --directory --owner=10001 --group=10001 /var/lib/voxelight
# torch and torchvision together: asked for apart, pip may pick two that do not fit.
# hadolint ignore=DL3013
RUN --mount=type=bind,target=/source \
    pip install --no-cache-dir --constraint /source/constraints.txt torch torchvision
# hadolint ignore=DL3013
RUN --mount=type=bind,target=/source \
    --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --constraint /source/constraints.txt "$(echo /wheels/*.whl)[postgres,s3]"

ENV HOME=/var/lib/voxelight \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TRITON_CACHE_DIR=/tmp/triton \
    VOXELIGHT_HOME=/var/lib/voxelight
VOLUME /var/lib/voxelight
WORKDIR /var/lib/voxelight
USER 10001:10001
# A worker listens to no port: it lives while it beats in the database. Its name is that of the command below.
HEALTHCHECK --interval=30s --timeout=20s --start-period=120s --retries=4 \
    CMD ["voxelight", "worker", "--queue", "cpu", "--name", "worker", "--check"]
ENTRYPOINT ["tini", "--", "voxelight"]
CMD ["worker", "--queue", "cpu", "--name", "worker"]
