# The image of both commands. Nothing in it depends on the architecture: build it on each, or with
# `docker buildx build --platform linux/amd64,linux/arm64 .` (docs/image.md).
#
# GO_TAGS must fit the librados of GO_IMAGE and BASE_IMAGE, which are the same Debian: pacific for Debian 12.
ARG GO_IMAGE=docker.io/library/golang:1.26-bookworm
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim
ARG GO_TAGS=librados,pacific

FROM ${GO_IMAGE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends librados-dev librbd-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ENV GOCACHE=/go/build-cache
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG GO_TAGS
ARG VERSION=development
# The same source and packages make the same file: no paths, no build ID.
RUN CGO_ENABLED=1 go build -trimpath -buildvcs=false -tags "${GO_TAGS}" \
      -ldflags "-s -w -buildid= -X main.version=${VERSION}" -o /rbd-rescue ./cmd/rbd-rescue

FROM ${BASE_IMAGE}
# What apt and ldconfig write beside the packages differs from build to build. The API server's certificate comes with the
# ServiceAccount, so that no bundle of authorities is needed.
RUN apt-get update && apt-get install -y --no-install-recommends librados2 librbd1 && \
    rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /tmp/* /var/lib/dpkg/*-old
COPY --from=build /rbd-rescue /usr/bin/rbd-rescue
USER 65532:65532
ENTRYPOINT ["/usr/bin/rbd-rescue"]
# Last, so that a new revision is no new layer.
ARG BASE_IMAGE
ARG VERSION=development
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rbd-rescue" \
      org.opencontainers.image.description="Moves RBD volumes away from failed Kubernetes nodes, behind a proven fence" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/rbd-rescue/rbd-rescue" \
      org.opencontainers.image.documentation="https://github.com/rbd-rescue/rbd-rescue/tree/main/docs" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
