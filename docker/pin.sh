#!/bin/sh
# Writes the digest of every image behind its tag, in Dockerfile, compose.yaml and compose.prod.yaml: for a release, on a
# machine that reaches the images' registries. A tag can be given to another image; a digest can't. Run it again to
# take over what a tag means by now.
#
#   sh docker/pin.sh [FOLDER]        default: this file's
set -eu
cd "${1:-$(dirname "$0")}"
files="Dockerfile compose.yaml compose.prod.yaml"

# shellcheck disable=SC2086 # several files
images=$(sed -nE 's/^(FROM|[[:space:]]+image:) ([^ $]+:[^ @]+).*/\2/p' $files | sort -u)
for image in $images; do
  digest=$(docker buildx imagetools inspect "$image" --format '{{.Manifest.Digest}}')
  case $digest in
    sha256:????????????????????????????????????????????????????????????????) ;;
    *)
      echo "no digest of $image: $digest" >&2
      exit 1
      ;;
  esac
  for file in $files; do
    sed -E "s#^(FROM|[[:space:]]+image:) $image(@sha256:[0-9a-f]{64})?( |\$)#\1 $image@$digest\3#" "$file" >"$file.new"
    cat "$file.new" >"$file"
    rm "$file.new"
  done
  echo "$image@$digest"
done
