#!/usr/bin/env python3
"""Prints the bill of materials of programs, in CycloneDX: `sbom.py VERSION PROGRAM...`.

The crates are those that the programs themselves carry, in the section `.dep-v0` that cargo-auditable has written; their licences and
digests are Cargo's. SOURCE_DATE_EPOCH is its date.
"""

import datetime
import json
import os
import pathlib
import struct
import subprocess
import sys
import tomllib
import uuid
import zlib

TOP = pathlib.Path(__file__).resolve().parents[2]


def section(program, wanted):
    """The content of a section of a 64-bit little-endian ELF file."""
    file = program.read_bytes()
    if file[:6] != b"\x7fELF\x02\x01":
        sys.exit(f"{program} is not a 64-bit little-endian ELF file")
    start, = struct.unpack_from("<Q", file, 0x28)
    size, count, names = struct.unpack_from("<HHH", file, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", file, start + number * size) for number in range(count)]
    for name, _, _, _, offset, length in headers:
        at = headers[names][4] + name
        if file[at : file.index(b"\0", at)] == wanted:
            return file[offset : offset + length]
    sys.exit(f"{program} has no section {wanted.decode()}: build it with `cargo auditable build`")


def crates(program):
    """The packages that are in the program: not those that only its build uses."""
    listed = json.loads(zlib.decompress(section(program, b".dep-v0")))["packages"]
    return {number: crate for number, crate in enumerate(listed) if crate.get("kind", "runtime") == "runtime"}


def known():
    """Of each package in Cargo.lock its licence and its digest, by name and version."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, check=True).stdout)
    licences = {(one["name"], one["version"]): one["license"] for one in metadata["packages"]}
    locked = tomllib.loads((TOP / "Cargo.lock").read_text())["package"]
    return licences, {(one["name"], one["version"]): one.get("checksum") for one in locked}


def reference(crate):
    return f"pkg:cargo/{crate['name']}@{crate['version']}"


def main(version, *programs):
    licences, digests = known()
    components, uses, roots = {}, {}, []
    for program in map(pathlib.Path, programs):
        listed = crates(program)
        for crate in listed.values():
            key = (crate["name"], crate["version"])
            component = {
                "type": "application" if crate.get("root") else "library",
                "bom-ref": reference(crate),
                "name": crate["name"],
                "version": crate["version"],
                "purl": reference(crate),
            }
            if licences.get(key):
                component["licenses"] = [{"expression": licences[key].replace("/", " OR ")}]
            if digests.get(key):
                component["hashes"] = [{"alg": "SHA-256", "content": digests[key]}]
            components[reference(crate)] = component
            used = [listed[number] for number in crate.get("dependencies", []) if number in listed]
            uses.setdefault(reference(crate), set()).update(map(reference, used))
            if crate.get("root"):
                roots.append(reference(crate))
    top = {"type": "application", "bom-ref": "wasaba-package", "name": "wasaba", "version": version}
    top["licenses"] = [{"expression": "Apache-2.0"}]
    uses[top["bom-ref"]] = set(roots)
    date = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": date.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": top},
        "components": [components[one] for one in sorted(components)],
        "dependencies": [{"ref": one, "dependsOn": sorted(uses[one])} for one in sorted(uses)],
    }
    bill["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(bill, sort_keys=True)).urn
    print(json.dumps(bill, indent=1, sort_keys=True))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: sbom.py VERSION PROGRAM...")
    main(*sys.argv[1:])
