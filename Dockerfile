# One image, one program: `gledger gateway`, `gledger worker`, `gledger migrate`. It runs as a user that owns nothing.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/gledger
WORKDIR /src
COPY requirements/run.txt requirements/run.txt
RUN /opt/gledger/bin/pip install --require-hashes --requirement requirements/run.txt
COPY . .
RUN /opt/gledger/bin/pip install --no-deps .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="GLedger Live" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gledger
COPY --from=build /opt/gledger /opt/gledger
ENV PATH=/opt/gledger/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GLEDGER_HOST=0.0.0.0 \
    GLEDGER_PORT=8080 \
    GLEDGER_LOG_FORMAT=json
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["gledger"]
CMD ["gateway"]
