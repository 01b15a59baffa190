# One image for everything: `serve` by itself, front ends (`serve --join`), and Ray's nodes (`ray start`).
#
#     docker build -t parallel-interview .

FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY orchestrator orchestrator
COPY actors actors
COPY api api
COPY client client
RUN python -m pip wheel --no-deps --wheel-dir /wheels .
RUN python -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir -c constraints.txt /wheels/*.whl

FROM python:3.11-slim
# Pango: reports as PDF. wget: KubeRay's probes.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libpango-1.0-0 libpangoft2-1.0-0 fonts-dejavu-core wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home interview \
    && install -d -o interview -g interview -m 700 /data /tmp/ray
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    INTERVIEW_DATA_DIR=/data \
    PYTHONUNBUFFERED=1
USER interview
WORKDIR /home/interview
VOLUME /data
EXPOSE 8005
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8005/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["parallel-interview", "serve", "--host", "0.0.0.0"]
