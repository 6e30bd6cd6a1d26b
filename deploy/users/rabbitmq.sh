#!/bin/sh
# Makes the users of ingest and workers, or gives them the passwords of today, with the permissions that
# `hotrow-worker migrate --roles` prints. Needs rabbitmqctl, and INGEST_PASSWORD and WORKER_PASSWORD.

set -eu

# user <name> <password> <configure> <write> <read>; a password is not for the list of processes.
user() {
  name=$1 password=$2
  shift 2
  echo "$password" | rabbitmqctl --quiet add_user "$name" 2>/dev/null ||
    echo "$password" | rabbitmqctl --quiet change_password "$name"
  rabbitmqctl --quiet set_permissions --vhost / "$name" "$@"
}

user shop_ingest "$INGEST_PASSWORD" '^amq\.gen-.*$' '^(hotrow\.orders|hotrow\.settled|amq\.gen-.*)$' '^(hotrow\.settled|amq\.gen-.*)$'
user shop_worker "$WORKER_PASSWORD" '^hotrow\..*$' '^hotrow\..*$' '^hotrow\..*$'
