#!/usr/bin/env python3
"""Makes the container image of several architectures without an engine: `oci.py VERSION OUT ARCH=ROOTFS...`.

OUT is an archive in the layout of OCI, with one index over the architectures, for registries (`skopeo copy --all oci-archive:OUT ...`); and
with the list that `docker load` reads, in which each architecture has a tag of its own. ROOTFS is what rootfs.sh made. What the image is
besides its files is in the last stage of the Dockerfile, which is read here. SOURCE_DATE_EPOCH is the date of everything.
"""

import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shlex
import sys
import tarfile

DOCKERFILE = pathlib.Path(__file__).resolve().parents[3] / "Dockerfile"
EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])
CREATED = datetime.datetime.fromtimestamp(EPOCH, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
SECONDS = {"s": 1, "m": 60, "h": 3600}


def last_stage():
    """The instructions of the last stage of the Dockerfile, each with its text."""
    stage = DOCKERFILE.read_text().split("\nFROM scratch\n")[1].replace("\\\n", " ")
    lines = (line.split(maxsplit=1) for line in stage.splitlines() if line and not line.startswith("#"))
    return [(word.upper(), text) for word, text in lines]


def nanoseconds(text):
    """Docker's durations, as 30s."""
    return int(text[:-1]) * SECONDS[text[-1]] * 1_000_000_000


def configuration():
    """The part `config` of an image's configuration, and the copied folders as (source, target, owner)."""
    config, copied = {"Env": []}, []
    for word, text in last_stage():
        if word == "COPY":
            owner = re.search(r"--chown=(\d+):(\d+)", text)
            source, target = text.split()[-2:]
            copied.append((source, target, tuple(map(int, owner.groups())) if owner else (0, 0)))
        elif word == "ENV":
            config["Env"] += shlex.split(text)
        elif word == "USER":
            config["User"] = text
        elif word == "VOLUME":
            config["Volumes"] = {text: {}}
        elif word == "STOPSIGNAL":
            config["StopSignal"] = text
        elif word in ("ENTRYPOINT", "CMD"):
            config[word.capitalize()] = json.loads(text)
        elif word == "HEALTHCHECK":
            flags, command = text.split(" CMD ")
            values = dict(flag.removeprefix("--").split("=") for flag in flags.split())
            config["Healthcheck"] = {
                "Test": ["CMD", *json.loads(command)],
                "Interval": nanoseconds(values["interval"]),
                "Timeout": nanoseconds(values["timeout"]),
                "StartPeriod": nanoseconds(values["start-period"]),
                "Retries": int(values["retries"]),
            }
        else:
            sys.exit(f"oci.py does not know {word} of the Dockerfile")
    return config, copied


class Archive:
    """What is written, by path."""

    def __init__(self):
        self.files = {}

    def blob(self, content, kind):
        """Adds a blob, and returns its descriptor."""
        digest = hashlib.sha256(content).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    def json(self, value, kind):
        return self.blob(json.dumps(value, sort_keys=True).encode(), kind)

    def write(self, path):
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for name in sorted(self.files):
                archive.addfile(*entry(name, tarfile.REGTYPE, 0o644, (0, 0), self.files[name]))


def entry(name, kind, mode, owner, content=b""):
    """A member of an archive, with its content."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.mtime = kind, mode, len(content), EPOCH
    info.uid, info.gid = owner
    return info, io.BytesIO(content)


def layer(folder, target, owner):
    """An uncompressed layer with what is in `folder` at `target`."""
    out = io.BytesIO()
    prefix = pathlib.PurePosixPath(target.strip("/"))
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        # The target is the copier's, as with Docker; the folders above it are root's, and come with the layer before.
        if prefix.parts:
            archive.addfile(*entry(f"{prefix}/", tarfile.DIRTYPE, 0o755, owner))
        for path in sorted(folder.rglob("*")):
            name = str(prefix / path.relative_to(folder))
            mode = path.lstat().st_mode & 0o7777
            if path.is_dir():
                archive.addfile(*entry(f"{name}/", tarfile.DIRTYPE, mode, owner))
            else:
                archive.addfile(*entry(name, tarfile.REGTYPE, mode, owner, path.read_bytes()))
    return out.getvalue()


def main(version, out, *platforms):
    archive, manifests, loaded = Archive(), [], []
    config, copied = configuration()
    labels = {"org.opencontainers.image.title": "wasaba", "org.opencontainers.image.version": version}
    labels["org.opencontainers.image.licenses"] = "Apache-2.0"
    if revision := os.environ.get("WASABA_REVISION"):
        labels["org.opencontainers.image.revision"] = revision
    for platform in platforms:
        architecture, rootfs = platform.split("=")
        layers, diffs = [], []
        for source, target, owner in copied:
            content = layer(pathlib.Path(rootfs) / pathlib.Path(source).relative_to("/rootfs"), target, owner)
            diffs.append("sha256:" + hashlib.sha256(content).hexdigest())
            packed = gzip.compress(content, compresslevel=9, mtime=0)
            layers.append(archive.blob(packed, "application/vnd.oci.image.layer.v1.tar+gzip"))
        image = {
            "created": CREATED,
            "architecture": architecture,
            "os": "linux",
            "config": {**config, "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": diffs},
            "history": [{"created": CREATED, "created_by": f"COPY {target}"} for _, target, _ in copied],
        }
        configured = archive.json(image, "application/vnd.oci.image.config.v1+json")
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": configured, "layers": layers, "annotations": labels}
        manifests.append({**archive.json(manifest, kind), "platform": {"architecture": architecture, "os": "linux"}})
        path = lambda blob: "blobs/" + blob["digest"].replace(":", "/")
        tags = [f"wasaba:{version}-{architecture}"]
        loaded.append({"Config": path(configured), "RepoTags": tags, "Layers": [path(blob) for blob in layers]})
    kind = "application/vnd.oci.image.index.v1+json"
    index = archive.json({"schemaVersion": 2, "mediaType": kind, "manifests": manifests, "annotations": labels}, kind)
    index["annotations"] = {"org.opencontainers.image.ref.name": version}
    archive.files["index.json"] = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [index]}).encode()
    archive.files["oci-layout"] = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()
    archive.files["manifest.json"] = json.dumps(loaded).encode()
    archive.write(out)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: oci.py VERSION OUT ARCH=ROOTFS...")
    main(*sys.argv[1:])
