#!/bin/sh
# Starts Redis with persistence, and requires the password from the secret's file. Docker Compose and Kubernetes both run this
# script in an image of Redis. The password is passed on standard input, so that no process list shows it.
set -eu
password=$(cat /run/secrets/mpa_redis_password 2>/dev/null || true)
if [ "${1:-}" = ping ]; then
  # redis-cli exits with 0 for any answer, even "LOADING" and "NOAUTH".
  [ "$(REDISCLI_AUTH=$password redis-cli ping)" = PONG ]
  exit
fi
if [ -z "$password" ] && [ "${ALLOW_NO_PASSWORD:-}" != yes ]; then
  echo "/run/secrets/mpa_redis_password is missing or empty: see docs/deploy.md for how to make one." >&2
  exit 1
fi
# Without a password, protected mode would refuse every client; whether none is allowed was checked above.
exec redis-server --protected-mode no --appendonly yes --appendfsync everysec --dir /data --maxmemory-policy noeviction - <<END
requirepass "$password"
END
