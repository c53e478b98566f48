# A stock nginx that knows nothing of holdfast, and the load generator.
FROM docker.io/library/debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends nginx-light procps
COPY --from=loader /loader /loader
USER 65532:65532
CMD ["nginx", "-g", "daemon off;"]
