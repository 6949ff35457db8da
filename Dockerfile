# An image with `flow` alone, built from this folder: docker build -t flow .
# docs/containers.md puts a project into it. The image of a release is made from packaging/Containerfile.
FROM rust:1.94-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release --bin flow \
    && mkdir -p /out/project \
    && cp target/release/flow /out/flow

# glibc, libgcc and the certificates of authorities; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/flow /usr/local/bin/flow
# The user of this image owns the folder of the project, where `.flow` is kept.
COPY --from=build --chown=65532:65532 /out/project /project
WORKDIR /project
USER 65532:65532
ENTRYPOINT ["flow"]
