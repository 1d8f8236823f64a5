# The image: the static program, the official plugins with their precompiled code, and CA certificates; nothing else.
#
#   docker build -t wasaba .                                       for this machine
#   docker buildx build --platform linux/amd64,linux/arm64 .       for other platforms
#   make image                                                     the last stage alone, from a program that is already built

# Runs on the target platform, so that Rust compiles natively.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
ARG WASABA_REVISION=unknown
RUN make build && agent/packaging/image/rootfs.sh target/release /rootfs

FROM scratch
COPY --from=build /rootfs/all/ /
# The only directory that the agent writes to: the host id and the queue.
COPY --from=build --chown=10001:10001 /rootfs/state/ /var/lib/mackerel-agent/
ENV WASABA_CONTAINER=1 PATH=/usr/bin
USER 10001:10001
VOLUME /var/lib/mackerel-agent
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=5s --start-period=30s --retries=2 CMD ["/usr/bin/wasaba", "health"]
ENTRYPOINT ["/usr/bin/wasaba"]
CMD ["container"]
