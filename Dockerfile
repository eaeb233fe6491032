# augcond in a container (docs/install.md): docker build --target cpu --tag augcond .
# The target cuda brings CUDA's libraries with PyTorch's wheels; the host has driver and NVIDIA container toolkit.

FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.12-slim-bookworm AS base
ENV HF_HOME=/cache PYTHONUNBUFFERED=1
# Not root; weights that are fetched lie in /cache, which any user may write to (docker run --user).
RUN useradd --create-home --uid 1000 augcond && mkdir --mode 1777 /cache /work
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["augcond"]
CMD ["--help"]

FROM base AS cuda
RUN pip install --no-cache-dir torch==2.14.1 torchvision==0.29.1
COPY --from=wheel /dist /dist
RUN pip install --no-cache-dir /dist/*.whl
USER 1000

FROM base AS cpu
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch==2.14.1 torchvision==0.29.1
COPY --from=wheel /dist /dist
RUN pip install --no-cache-dir /dist/*.whl
USER 1000
