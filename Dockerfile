# A machine: the executor, and the scheduler's processes, on a small Debian. Made by
# scripts/machine-image, which lays the wheels beside this file: a build may have no Python index.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS dependencies
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY wheels/ /wheels/
# All that there is, as it was resolved: so nothing is looked up anywhere.
RUN python3 -m venv /opt/simherd \
    && /opt/simherd/bin/pip install --quiet --no-cache-dir --no-index --no-deps /wheels/*.whl

FROM ${BASE_IMAGE}
# For the hard disk limit, a file system in a file: e2fsprogs makes it, mount mounts it.
# For keeping simulations from the cloud's metadata address: iptables. For `simherd sim`: iproute2.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends \
        ca-certificates e2fsprogs iproute2 iptables mount python3 util-linux \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=dependencies /opt/simherd /opt/simherd
# Apart from the dependencies, so that a change of Simherd makes but a small new layer.
COPY simherd-*.whl /opt/simherd/
# `check` finds what Debian's Python needs and the one that resolved did not.
RUN /opt/simherd/bin/python -m pip install --quiet --no-cache-dir --no-index --no-deps \
        /opt/simherd/simherd-*.whl \
    && /opt/simherd/bin/python -m pip check \
    && ln -s /opt/simherd/bin/simherd /opt/simherd/bin/simherd-executor \
        /opt/simherd/bin/simherd-scheduler /usr/local/bin/
# What the agent says is to be seen at once, not when a buffer is full.
ENV PYTHONUNBUFFERED=1
ARG VERSION=unknown
LABEL org.opencontainers.image.title="Simherd machine" \
    org.opencontainers.image.description="Simherd's executor, and the scheduler's processes" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}"
CMD ["simherd-executor"]
