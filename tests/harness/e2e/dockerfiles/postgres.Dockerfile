# PostgreSQL 17 and PgBouncer from Debian, used like the usual images where these cannot be had. Context: this folder.
FROM debian:trixie-slim
RUN apt-get update \
    # The user as the official image has it, before the packages make one of their own.
    && groupadd --gid 999 postgres && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres \
    && apt-get install --yes --no-install-recommends ca-certificates postgresql-common \
    && sed -i 's/^#create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
    && apt-get install --yes --no-install-recommends pgbouncer postgresql-17 \
    # The compiler for big queries, which is a third of all.
    && rm -rf /usr/lib/postgresql/17/lib/llvmjit.so /usr/lib/postgresql/17/lib/bitcode /usr/lib/*/libLLVM* \
    && rm -rf /var/lib/apt/lists/*
COPY postgres.sh /usr/local/bin/postgres.sh
ENV PATH=/usr/lib/postgresql/17/bin:$PATH PGDATA=/var/lib/postgresql/data
USER 999:999
# A fast shutdown, as the official image has it: clients are told to go.
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/postgres.sh"]
