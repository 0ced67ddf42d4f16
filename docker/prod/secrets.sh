#!/bin/sh
# Makes all that compose.prod.yaml keeps secret: an authority and certificates, a password for each role on Kafka and on
# the log server, keys of identities, of the vault and of the notary.
#
#   sh docker/prod/secrets.sh [FOLDER]        default: secrets, beside this file
#
# What is there is never replaced: to change something, remove its file, run this again, and say it to the server
# (docs/deployment.md). Needs openssl, and the image or, as SENTINEL, another way to run `sentinel`. Run by root it gives
# the files to the users of the containers; otherwise it says which.
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/secrets}
console=${CONSOLE_NAME:-localhost}
days=${DAYS:-825}
roles="worker responder api archiver learner notary reader admin"
kafka_roles="worker responder api admin"
identities="worker console reference responders loop notary archiver admin"

mkdir -p "$out/sentinel" "$out/kafka" "$out/valkey"
chmod 755 "$out"
cd "$out"

# certificate NAME ADDRESSES: NAME.crt and NAME.key, for servers.
certificate() {
  [ ! -e "$1.crt" ] || return 0
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -subj "/CN=${1##*/}" \
    -keyout "$1.key" -out "$1.csr" 2>/dev/null
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$2" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days "$days" -extfile "$1.ext" \
    -out "$1.crt" 2>/dev/null
  rm "$1.csr" "$1.ext"
}

# secret FILE COMMAND…: what the command prints, if the file is not there.
secret() {
  [ -e "$1" ] || {
    file=$1
    shift
    "$@" >"$file.new"
    mv "$file.new" "$file"
  }
}

if [ ! -e ca.crt ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 3650 -subj "/CN=stream-sentinel" \
    -keyout ca.key -out ca.crt 2>/dev/null
  chmod 644 ca.crt
fi
certificate kafka/kafka DNS:kafka,DNS:localhost,IP:127.0.0.1
certificate valkey/valkey DNS:valkey,DNS:localhost,IP:127.0.0.1
certificate sentinel/console "DNS:$console"
secret kafka/kafka.pem cat kafka/kafka.key kafka/kafka.crt

for role in $roles; do
  secret "sentinel/$role.redis" openssl rand -hex 24
done
for role in $kafka_roles; do
  secret "sentinel/$role.kafka" openssl rand -hex 24
done
secret sentinel/vault.key openssl rand -hex 32
secret sentinel/notary.key openssl genpkey -algorithm ed25519

# The log server knows passwords by their SHA-256 only.
{
  for role in $roles; do
    printf '%s #%s\n' "$(cat "$here/../acl/$role.acl")" \
      "$(tr -d '\n' <"sentinel/$role.redis" | openssl dgst -sha256 -r | cut -d' ' -f1)"
  done
  echo 'user default off'
} >valkey/users.acl.new
mv valkey/users.acl.new valkey/users.acl

# The broker's own user may do everything; it makes topics and gives rights.
secret kafka/broker.password openssl rand -hex 24
secret kafka/cluster.id openssl rand -base64 16
{
  printf -- '--cluster-id=%s\n' "$(tr '+/' '-_' <kafka/cluster.id | tr -d '=\n')"
  printf -- '--add-scram=SCRAM-SHA-512=[name=broker,password=%s]\n' "$(cat kafka/broker.password)"
  for role in $kafka_roles; do
    printf -- '--add-scram=SCRAM-SHA-512=[name=sentinel-%s,password=%s]\n' "$role" "$(cat "sentinel/$role.kafka")"
  done
} >kafka/format.options
printf 'password=%s\n' "$(cat kafka/broker.password)" >kafka/broker.properties
cat >kafka/admin.properties <<END
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="broker" password="$(cat kafka/broker.password)";
ssl.truststore.type=PEM
ssl.truststore.location=/etc/kafka/prod/ca.crt
END

# Each identity's public key stands beside it, for roster.sh.
cd sentinel
for name in $identities; do
  if [ ! -e "$name.pem" ]; then
    # shellcheck disable=SC2086 # a command with its arguments
    ${SENTINEL:-docker run --rm --user $(id -u):$(id -g) --volume $PWD:/keys --workdir /keys stream-sentinel} \
      identity new "$name" --out "$name.pem" --json >"$name.json"
    sed 's/.*"public_key": *"\([0-9a-f]*\)".*/\1/' "$name.json" | tr -d '\n' >"$name.pub"
    rm "$name.json"
  fi
done
cd ..

# own USER FOLDER: the containers' users read what they mount, and nobody else does.
own() {
  if [ "$(id -u)" -eq 0 ]; then
    chown -R "$1:$1" "$2"
  else
    echo "as root: chown -R $1:$1 $out/$2"
  fi
}
own 10001 sentinel
own 1000 kafka
own 999 valkey
echo "secrets in $out; move ca.key to another place, and keep a copy of everything there"
