# The server for x86-64 hosts, with or without a GPU. CUDA's libraries come with torch's wheels, the
# driver from the host. The image contains no compiler, no tests, and no weights except the embedded
# profile `tiny`. How to run it: docs/deploy.md.

FROM python:3.11-slim-bookworm AS build
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /build
COPY requirements-build.txt ./
RUN pip install --no-cache-dir --require-hashes --no-deps --requirement requirements-build.txt
# Before the sources, so that torch is downloaded again only when versions change.
COPY requirements-runtime.txt requirements-cluster.txt ./
# The other one also has what a cluster takes: docs/scale.md.
ARG REQUIREMENTS=requirements-runtime.txt
RUN --mount=type=cache,target=/root/.cache/uv \
    uv venv /opt/face-detailer \
    && uv pip install --python /opt/face-detailer --require-hashes --no-deps --no-build \
        --requirement "${REQUIREMENTS}"
COPY pyproject.toml README.md LICENSE ./
COPY evaluation ./evaluation
COPY face_detailer_client ./face_detailer_client
COPY pipeline ./pipeline
COPY server ./server
COPY weights ./weights
RUN hatchling build --target wheel \
    && uv pip install --python /opt/face-detailer --no-cache --no-deps dist/*.whl

FROM python:3.11-slim-bookworm
# Further Debian packages, such as the "gcc libc6-dev" that FACE_DETAILER_COMPILE needs.
ARG PACKAGES=""
# tini reaps processes that outlive a killed worker, even without `--init`. Its version is not
# pinned, because Debian's mirrors drop the old version with every fix.
# hadolint ignore=DL3008,SC2086
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini ${PACKAGES} \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin face-detailer \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data /data/weights
COPY --from=build /opt/face-detailer /opt/face-detailer
# Everything is written to /data and /tmp, so the root file system can be read-only.
ENV PATH=/opt/face-detailer/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_REQUIRE_CUDA="cuda>=13.0" \
    FACE_DETAILER_HOST=0.0.0.0 \
    FACE_DETAILER_PORT=8000 \
    FACE_DETAILER_DATA_DIR=/data
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
# Python, because there is no curl; not urllib, which would use a proxy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m --retries=3 \
    CMD ["python", "-c", "import http.client, os; probe = http.client.HTTPConnection('127.0.0.1', int(os.environ['FACE_DETAILER_PORT']), timeout=5); probe.request('GET', '/ready'); raise SystemExit(probe.getresponse().status != 200)"]
ENTRYPOINT ["tini", "--", "face-detailer"]
CMD ["serve"]
