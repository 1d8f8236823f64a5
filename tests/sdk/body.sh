#!/bin/sh
# Writes cases about bodies into a folder, `body.sh FOLDER`: one with the longest body that the agent passes on, 4 MiB, and one with no body at all.
# Apart from cases.toml, since such a file is not kept: `wasaba plugin test everything.wasm FOLDER/body.toml`.
set -eu
folder=$1
mkdir -p "$folder"
# Not zeros: each kind of byte, so that it is not text either.
{ i=0; while [ $i -lt 256 ]; do printf "\\$(printf %03o $i)"; i=$((i + 1)); done; } >"$folder/bytes"
cp "$folder/bytes" "$folder/body.bin"
# 2^8 bytes, doubled 14 times: 4 MiB.
i=0
while [ $i -lt 14 ]; do
    cat "$folder/body.bin" "$folder/body.bin" >"$folder/twice"
    mv "$folder/twice" "$folder/body.bin"
    i=$((i + 1))
done
rm "$folder/bytes"
cat >"$folder/body.toml" <<'END'
[[case]]
name = "a body of 4 MiB arrives whole"
settings = { url = "http://web/", host = "localhost", socket = "/run/echo.sock", file = "/var/log/a" }
http = [{ url = "http://web/", body = { file = "body.bin" } }]
tcp = [{ with = "localhost:7", talk = [{ expect = "everything" }] }, { with = "localhost:7" }, { with = "unix:/run/echo.sock", talk = [{ expect = "everything" }] }]
files = { "/var/log/a" = "x" }
samples = { "everything.done.http" = 200, "everything.done.tcp" = 0, "everything.done.unix" = 0, "everything.done.file" = 1, "everything.done.calls" = 1, "everything.done.then" = 1 }

[[case]]
name = "an empty body, an empty file and a server that closes at once are not errors"
settings = { url = "http://web/", host = "localhost", socket = "/run/echo.sock", file = "/var/log/a" }
http = [{ url = "http://web/", body = "" }]
tcp = [{ with = "localhost:7", talk = [{ expect = "everything" }] }, { with = "localhost:7" }, { with = "unix:/run/echo.sock", talk = [{ expect = "everything" }] }]
files = { "/var/log/a" = "" }
samples = { "everything.done.http" = 200, "everything.done.tcp" = 0, "everything.done.unix" = 0, "everything.done.file" = 0, "everything.done.calls" = 1, "everything.done.then" = 1 }
END
