# A double of Loki's API as an image: not Loki, for clusters in tests. Context: tests/doubles.
FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-yaml \
    && rm -rf /var/lib/apt/lists/*
COPY loki_double /opt/double/loki_double
ENV PYTHONPATH=/opt/double PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
ENTRYPOINT ["python3", "-m", "loki_double"]
