# The platform's own image: the simulator, the trader, a model that is served, the steps that prepare the platform, and the command
# line.
# Built from the root: docker build -f Dockerfile .
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
ENV UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PYTHON=python3.11 \
    UV_PYTHON_DOWNLOADS=never \
    UV_SYSTEM_CERTS=1
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /opt/mbats
COPY pyproject.toml uv.lock ./
# The project is installed as a reference to /opt/mbats/src, so a change of the source leaves these layers alone. The first ones are
# those of the other images too, and are made once for all of them.
RUN mkdir -p src/mbats \
    && touch README.md LICENSE src/mbats/__init__.py \
    && uv sync --frozen --no-default-groups
RUN uv sync --frozen --no-default-groups --group trader --group simulator --group native --group ml

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="MBATS: tools" \
      org.opencontainers.image.description="The simulator of OANDA's exchange, the platform's preparation, and its command line." \
      org.opencontainers.image.licenses="GPL-3.0-or-later"
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/mbats \
    MBATS_HOME=/var/lib/mbats
# LightGBM links to it and does not bring it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 mbats \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/mbats --no-create-home mbats \
    && groupadd --gid 10010 s3 \
    && useradd --uid 10010 --gid 10010 --home-dir /var/lib/mbats --no-create-home s3 \
    && groupadd --gid 10011 simulator \
    && useradd --uid 10011 --gid 10011 --home-dir /var/lib/mbats --no-create-home simulator \
    && groupadd --gid 10019 trader \
    && useradd --uid 10019 --gid 10019 --home-dir /var/lib/mbats --no-create-home trader \
    && groupadd --gid 10018 serving \
    && useradd --uid 10018 --gid 10018 --home-dir /var/lib/mbats --no-create-home serving \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/mbats
COPY --from=packages /opt/venv /opt/venv
WORKDIR /opt/mbats
COPY src src
COPY db db
COPY minio minio
COPY mlflow mlflow
COPY strategies strategies
# Whoever cloned the project may have kept its files to himself; here another user reads them, and cannot write.
RUN chmod -R a+rX . \
    && chmod +x src/mbats/platform/probe.py \
    && ln -s /opt/mbats/src/mbats/platform/probe.py /usr/local/bin/probe \
    && python -m compileall -q src
USER 10001:10001
CMD ["mbats", "--help"]
