FROM python:3.12-slim
WORKDIR /opt/gigawatch
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY schemas schemas
COPY producers producers
COPY pipeline pipeline
COPY dashboards dashboards
RUN pip install --no-cache-dir --constraint constraints.txt . && useradd --create-home gigawatch
USER gigawatch
ENTRYPOINT ["gigawatch"]
HEALTHCHECK --interval=30s --timeout=20s --retries=5 CMD ["gigawatch", "doctor"]
