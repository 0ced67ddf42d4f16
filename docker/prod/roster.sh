#!/bin/sh
# Puts the administrator and every process of compose.prod.yaml on the log's roster, and requires identity from then on
# (docs/identity.md). Run it once a worker has begun the log; whoever is on the roster already is passed over.
#
#   sh docker/prod/roster.sh REASON [FOLDER OF SECRETS]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
reason=${1:?usage: roster.sh REASON [FOLDER OF SECRETS]}
secrets=${2:-$here/secrets}

sentinel() {
  # shellcheck disable=SC2086 # a command with its arguments
  ${SENTINEL:-docker compose -f $here/../compose.prod.yaml run --rm --no-TTY admin} "$@"
}

known=" $(sentinel identity list --json | tr -d '\n') "

# add NAME ROLE
add() {
  case $known in
    *"\"name\":\"$1\""* | *"\"name\": \"$1\""*) echo "$1 is on the roster" ;;
    *) sentinel identity add "$1" --role "$2" --public-key "$(cat "$secrets/sentinel/$1.pub")" ;;
  esac
}

# The first one adds themselves, with their own key.
case $known in
  *'"name":"admin"'* | *'"name": "admin"'*) echo "admin is on the roster" ;;
  *) sentinel identity add --role admin --role publisher ;;
esac
add worker worker
add console api
add reference reference
add responders responder
add loop learner
add notary notary
add archiver archiver
sentinel identity require --reason "$reason"
