# One image for workers, the gateway and the operator. BASE has Python 3.11 or later, with venv, as `python3`.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
WORKDIR /source
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/hivewire
COPY image/ image/
RUN /opt/build/bin/python -m pip install --no-cache-dir --require-hashes -r image/build-requirements.lock \
 && /opt/build/bin/python -m pip --python /opt/hivewire/bin/python install --no-cache-dir --require-hashes -r image/requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY runtime/ runtime/
COPY services/ services/
RUN /opt/build/bin/python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/build/bin/python -m pip --python /opt/hivewire/bin/python install --no-cache-dir --no-deps dist/*.whl \
 && /opt/hivewire/bin/python image/sbom.py > hivewire.cdx.json

FROM ${BASE}
# Kubernetes takes a user's group from here, and 0 for a user who is not here.
RUN echo "hivewire:x:10001:10001::/app:/usr/sbin/nologin" >> /etc/passwd && echo "hivewire:x:10001:" >> /etc/group
COPY --from=build /opt/hivewire /opt/hivewire
COPY --from=build /source/hivewire.cdx.json /usr/share/sbom/hivewire.cdx.json
# The root file system may be read-only: bytecode was compiled when the packages were installed.
ENV PATH="/opt/hivewire/bin:${PATH}" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001
ENTRYPOINT ["hivewire"]
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="hivewire" \
      org.opencontainers.image.description="AutoGen-style agents as stateless pods on NATS and Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
