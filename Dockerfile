# One image for backend, worker and sidecar: the command chooses which (docker-compose.yml has all three).
FROM python:3.11.14-slim-bookworm

# Where pip looks, for those behind a mirror or without a GPU (docs/containers.md, Good to know); empty: pip's own default.
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=

ENV PATH=/opt/venv/bin:$PATH
WORKDIR /app

# The same files in the same way as `make install`, with the extras, and without what only development needs. Before the source, so that a
# change of the source does not install everything anew.
COPY requirements requirements
RUN python -m venv /opt/venv \
    && python -m pip install --no-cache-dir --requirement requirements/lock.txt \
    && python -m pip install --no-cache-dir --requirement requirements/image.in \
    && python -m pip install --no-cache-dir --no-deps --requirement requirements/label-studio-ml.txt

COPY pyproject.toml README.md ./
COPY ml_backend ml_backend
COPY label_config label_config
RUN python -m pip install --no-cache-dir --no-deps .

# Volumes take their owner from these folders. The code belongs to root: the processes cannot change it.
RUN groupadd --gid 10001 annotator \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin annotator \
    && install --directory --owner=annotator --group=annotator /data /cache /frames

# The root may be read-only: what is kept goes to /data and /cache, what is not to /tmp.
ENV HOME=/tmp \
    TMPDIR=/tmp \
    TORCH_HOME=/data/torch \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TSAL_HOST=0.0.0.0 \
    TSAL_PORT=9090 \
    TSAL_DATA_DIR=/data \
    TSAL_CACHE_DIR=/cache

USER 10001:10001
VOLUME ["/data", "/cache"]
EXPOSE 9090
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['TSAL_PORT']}/health\", timeout=8)"]
CMD ["tsal", "backend"]
