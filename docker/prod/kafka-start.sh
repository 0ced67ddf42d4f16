#!/bin/sh
# Starts the broker of compose.prod.yaml. Its first start formats the storage, with the cluster's ID and the users that
# secrets.sh wrote, one option a line; a later one leaves it as it is.
set -eu
bin=${KAFKA_BIN:-/opt/kafka/bin}
properties=${KAFKA_PROPERTIES:-/etc/kafka/prod/server.properties}
options=${KAFKA_OPTIONS:-/run/secrets/format.options}

set --
while IFS= read -r option; do
  set -- "$@" "$option"
done <"$options"
"$bin/kafka-storage.sh" format --ignore-formatted --config "$properties" "$@"
exec "$bin/kafka-server-start.sh" "$properties"
