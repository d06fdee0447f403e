# All of Simherd's processes, on a small Debian: API, worker, recorder, the agent of a machine, and
# the command line.
#
#   docker build -t simherd/machine:local .
#
# The packages are those of constraints.txt, from the index; or from wheels/ beside this file, if
# there is such a folder, and from nowhere else: scripts/machine-image lays it there.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS python
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/simherd
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1
WORKDIR /build
# The stars find nothing, too, where there is no such folder.
COPY constraints.txt pyproject.tom[l] wheel[s] wheels/

FROM python AS dependencies
COPY deploy/image/dependencies.py .
RUN if ls wheels/*.whl >/dev/null 2>&1; then \
        /opt/simherd/bin/pip install --no-index --no-deps wheels/*.whl; \
    else \
        /opt/simherd/bin/python dependencies.py wheels/pyproject.toml >wanted.txt \
        && /opt/simherd/bin/pip install --only-binary=:all: -c wheels/constraints.txt -r wanted.txt; \
    fi

# Apart from the dependencies, so that a change of Simherd makes but a small new layer.
FROM dependencies AS own
COPY . source/
# `check` finds what this Python needs and the one that resolved did not.
RUN if ls source/simherd-*.whl >/dev/null 2>&1; then wheel=source/simherd-*.whl; else \
        PIP_CONSTRAINT=wheels/constraints.txt /opt/simherd/bin/pip wheel --no-deps -w made ./source \
        && wheel=made/simherd-*.whl; \
    fi \
    && /opt/simherd/bin/pip install --no-index --no-deps --target /opt/own $wheel \
    && echo /opt/own >"$(echo /opt/simherd/lib/python3*/site-packages)/own.pth" \
    && /opt/simherd/bin/python -m pip check

FROM dependencies AS trimmed
# The image installs nothing, so it needs nobody who can.
RUN echo /opt/own >"$(echo /opt/simherd/lib/python3*/site-packages)/own.pth" \
    && /opt/simherd/bin/pip uninstall -y pip setuptools

FROM ${BASE_IMAGE}
# For the hard disk limit, a file system in a file: e2fsprogs makes it, mount mounts it.
# For keeping simulations from the cloud's metadata address: iptables. For `simherd sim`: iproute2.
# The user is not the one that simulations run as: that is the agent's SANDBOX_ID.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends \
        ca-certificates e2fsprogs iproute2 iptables mount python3 util-linux \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log \
    && groupadd --gid 10000 simherd \
    && useradd --uid 10000 --gid simherd --no-create-home --home-dir /var/lib/simherd \
        --shell /usr/sbin/nologin simherd \
    && install -d -o simherd -g simherd /var/lib/simherd \
    && ln -s /opt/own/bin/simherd /opt/own/bin/simherd-executor /opt/own/bin/simherd-scheduler \
        /usr/local/bin/
COPY --from=trimmed /opt/simherd /opt/simherd
COPY --from=own /opt/own /opt/own
# What a process says is to be seen at once, not when a buffer is full.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SIMHERD_LOG_FORMAT=json
WORKDIR /var/lib/simherd
USER simherd
ARG VERSION=unknown
LABEL org.opencontainers.image.title="Simherd" \
    org.opencontainers.image.description="Simherd's scheduler, executor and command line" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}"
# An agent has a state folder; what has none is a process of the scheduler.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 \
    CMD if [ -n "$SIMHERD_STATE_DIR" ]; then simherd-executor health; else simherd-scheduler health; fi
CMD ["simherd-executor"]
