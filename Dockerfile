# syntax=docker/dockerfile:1
# comba in a container, with a GPU or without:
#   docker build -t comba .
#   docker run --rm --gpus all -v "$PWD":/work comba predict runs/mine pictures/
# Only what runs gets into the image: the bundle of tools/bundle.sh and the libraries of LibTorch and CUDA, no Python.
FROM ubuntu:24.04 AS build
ENV COMBA_DEPS_DIR=/deps
WORKDIR /comba
# The set-up first, alone: changed sources do not repeat its downloads.
COPY tools/setup.sh tools/common.sh tools/
RUN tools/setup.sh
COPY . .
RUN cmake --preset release -DCOMBA_TESTS=OFF && cmake --build --preset release && tools/bundle.sh /opt/comba
WORKDIR /deps/venv/lib/python3.12/site-packages
RUN mkdir /opt/packages && cp -r --parents torch/lib nvidia/*/lib /opt/packages && find /opt/packages -name '*.a' -delete

FROM nvidia/cuda:13.0.2-base-ubuntu24.04
LABEL org.opencontainers.image.title="comba" \
      org.opencontainers.image.description="Vision models whose token mixer is the Comba recurrence, scanned in both directions" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/packages /opt/packages
COPY --from=build /opt/comba /opt/comba
ENV COMBA_TORCH=/opt/packages/torch \
    PATH=/opt/comba:$PATH
RUN useradd --uid 10001 --create-home comba
USER 10001
WORKDIR /work
ENTRYPOINT ["comba"]
CMD ["--help"]
