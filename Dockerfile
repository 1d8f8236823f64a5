# The image: the static program, the official plugins with their compiled code, and the certificate authorities; nothing else.
#
#   docker build -t wasaba .                                       for this machine
#   docker buildx build --platform linux/amd64,linux/arm64 .       for others
#   make image                                                     the last stage from a program that is built already

# Whatever machine builds: Rust's own tools for the one that the image is for.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
ARG WASABA_REVISION=unknown
RUN make build && agent/packaging/image/rootfs.sh target/release /rootfs

FROM scratch
COPY --from=build /rootfs/all/ /
# The one folder that the agent may write to: host id, queue.
COPY --from=build --chown=10001:10001 /rootfs/state/ /var/lib/mackerel-agent/
ENV WASABA_CONTAINER=1 PATH=/usr/bin
USER 10001:10001
VOLUME /var/lib/mackerel-agent
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=5s --start-period=30s --retries=2 CMD ["/usr/bin/wasaba", "health"]
ENTRYPOINT ["/usr/bin/wasaba"]
CMD ["container"]
