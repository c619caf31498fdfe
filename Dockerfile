# The image of both commands. GO_TAGS must fit the librados of the base image: pacific for Debian 12.
ARG GO_IMAGE=golang:1.26-bookworm
ARG BASE_IMAGE=debian:bookworm-slim
ARG GO_TAGS=librados,pacific

FROM ${GO_IMAGE} AS build
ARG GO_TAGS
ARG VERSION=development
RUN apt-get update && apt-get install -y --no-install-recommends librados-dev librbd-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=1 go build -trimpath -tags "${GO_TAGS}" -ldflags "-s -w -X main.version=${VERSION}" -o /rbd-rescue ./cmd/rbd-rescue

FROM ${BASE_IMAGE}
ARG VERSION=development
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rbd-rescue" \
      org.opencontainers.image.description="Moves RBD volumes away from failed Kubernetes nodes, behind a proven fence" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN apt-get update && apt-get install -y --no-install-recommends librados2 librbd1 ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /rbd-rescue /usr/bin/rbd-rescue
USER 65532:65532
ENTRYPOINT ["/usr/bin/rbd-rescue"]
