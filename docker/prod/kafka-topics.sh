#!/bin/sh
# Topics, and what each role may do with them: compose.prod.yaml runs it once the broker answers. Run it again whenever
# you like: what is there stays. The roles' rights are those of docs/security.md.
set -eu
bin=${KAFKA_BIN:-/opt/kafka/bin}
admin=${KAFKA_ADMIN:-/run/secrets/admin.properties}

create() {
  "$bin/kafka-topics.sh" --bootstrap-server "$KAFKA" --command-config "$admin" --create --if-not-exists \
    --topic "$1" --partitions "$PARTITIONS" --replication-factor "${REPLICAS:-1}" --config "message.timestamp.type=$2"
}

allow() {
  user=$1
  shift
  "$bin/kafka-acls.sh" --bootstrap-server "$KAFKA" --command-config "$admin" --add --allow-principal "User:$user" "$@" \
    >/dev/null
}

create transactions LogAppendTime
create feedback LogAppendTime
create decisions CreateTime
create transactions.rejects CreateTime

allow sentinel-worker --topic transactions --operation read
allow sentinel-worker --topic feedback --operation read
allow sentinel-worker --topic decisions --operation write
allow sentinel-worker --topic transactions.rejects --operation write
allow sentinel-worker --group stream-sentinel --operation read
allow sentinel-responder --topic feedback --operation write --operation read
allow sentinel-responder --topic transactions --operation describe
allow sentinel-responder --group stream-sentinel.responders --operation read
allow sentinel-api --topic transactions --operation write --operation read
allow sentinel-api --topic feedback --operation write --operation read
allow sentinel-admin --topic transactions --operation write --operation read --operation describe --operation describeconfigs
allow sentinel-admin --topic feedback --operation write --operation read --operation describeconfigs
allow sentinel-admin --topic decisions --operation write
allow sentinel-admin --topic transactions.rejects --operation write
allow sentinel-admin --group stream-sentinel --operation read
allow sentinel-admin --group stream-sentinel.responders --operation read
allow sentinel-admin --cluster --operation create --operation describe
