# The server for x86-64 hosts, with or without a GPU. CUDA's libraries come with torch's wheels, the driver from the host.
# Inside are no compiler, no tests and no weights but the embedded profile `tiny`. docs/deploy.md tells how to run it.

FROM python:3.11-slim-bookworm AS build
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /build
COPY requirements-build.txt ./
RUN pip install --no-cache-dir --require-hashes --no-deps --requirement requirements-build.txt
# In front of the sources, so that only new versions fetch torch again.
COPY requirements-runtime.txt ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv venv /opt/face-detailer \
    && uv pip install --python /opt/face-detailer --require-hashes --no-deps --no-build \
        --requirement requirements-runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY pipeline ./pipeline
COPY server ./server
COPY weights ./weights
RUN hatchling build --target wheel \
    && uv pip install --python /opt/face-detailer --no-cache --no-deps dist/*.whl

FROM python:3.11-slim-bookworm
# tini: the server's children that outlive a killed worker are reaped, also without `--init`. Its version is Debian's:
# a pinned one vanishes from the mirrors with the next fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin face-detailer \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data /data/weights
COPY --from=build /opt/face-detailer /opt/face-detailer
# All that is written goes to /data and /tmp, so that the root can be read-only.
ENV PATH=/opt/face-detailer/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    FACE_DETAILER_HOST=0.0.0.0 \
    FACE_DETAILER_PORT=8000 \
    FACE_DETAILER_DATA_DIR=/data
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
# By Python, since there is no curl, and not by urllib, which would ask a proxy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m --retries=3 \
    CMD ["python", "-c", "import http.client, os; probe = http.client.HTTPConnection('127.0.0.1', int(os.environ['FACE_DETAILER_PORT']), timeout=5); probe.request('GET', '/ready'); raise SystemExit(probe.getresponse().status != 200)"]
ENTRYPOINT ["tini", "--", "face-detailer"]
CMD ["serve"]
