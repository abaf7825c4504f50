# The page and the API. No network runs here, so torch and what needs it stay out; workers run the jobs.
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
RUN --mount=type=bind,target=/source \
    pip install --no-cache-dir --constraint /source/constraints.txt --requirement /source/docker/web.txt
# hadolint ignore=DL3013
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps /wheels/*.whl

ENV HOME=/var/lib/voxelight \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    VOXELIGHT_AUTH=keys \
    VOXELIGHT_HOME=/var/lib/voxelight
VOLUME /var/lib/voxelight
WORKDIR /var/lib/voxelight
USER 10001:10001
EXPOSE 8501
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8501/api/v1/health', timeout=4)"]
ENTRYPOINT ["tini", "--", "voxelight"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8501", "--no-worker"]
