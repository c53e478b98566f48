# syntax=docker/dockerfile:1
# holdfast alone, to be copied from:
#
#   COPY --from=holdfast /holdfast /usr/local/bin/holdfast
#   ENTRYPOINT ["holdfast", "--"]
#
# Build for one or both: docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=v1 .
# Without a Docker engine: make image. It reads the last stage here, so that there is one description of the image.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS=linux
ARG TARGETARCH
ARG VERSION=devel
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# The same flags as make build: static, stripped, the same bytes from the same source.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -tags holdfast_entry -trimpath -buildvcs=false -ldflags "-s -w -E holdfast_entry -checklinkname=0 -X main.version=$VERSION" -o /holdfast .

FROM scratch
ARG VERSION=devel
ARG REVISION=
LABEL org.opencontainers.image.title="holdfast" \
      org.opencontainers.image.description="A container's PID 1 that holds the listening ports and swaps the server behind them in place" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /holdfast /holdfast
USER 65532:65532
ENTRYPOINT ["/holdfast"]
