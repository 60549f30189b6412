#!/usr/bin/env bash
# Puts promtool, which tests the alert rules, into .venv/bin if the machine has none. It is taken from Debian's package, which
# is unpacked but not installed.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v promtool >/dev/null || [[ -x .venv/bin/promtool ]]; then
  exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$scratch" && apt-get download -qq prometheus && dpkg-deb --extract prometheus_*.deb .)
install -m 755 "$scratch/usr/bin/promtool" .venv/bin/promtool
