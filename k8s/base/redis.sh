#!/bin/sh
# Starts Redis with its data kept, and asks for the password that the file beside holds. Both Docker Compose and Kubernetes
# run it, under their own image of Redis. The password goes by standard input, so that no list of processes shows it.
set -eu
password=$(cat /run/secrets/mpa_redis_password 2>/dev/null || true)
if [ "${1:-}" = ping ]; then
  # redis-cli itself ends with 0 whatever the answer was, "LOADING" and "NOAUTH" too.
  [ "$(REDISCLI_AUTH=$password redis-cli ping)" = PONG ]
  exit
fi
if [ -z "$password" ] && [ "${ALLOW_NO_PASSWORD:-}" != yes ]; then
  echo "/run/secrets/mpa_redis_password is missing or empty: see docs/deploy.md for how to make one." >&2
  exit 1
fi
# Without a password protected mode would keep everybody out; who may be without one is said above.
exec redis-server --protected-mode no --appendonly yes --appendfsync everysec --dir /data --maxmemory-policy noeviction - <<END
requirepass "$password"
END
