#!/bin/sh
# Makes the Kubernetes Secrets of this installation from the files of the keyring:
#   ./secrets.sh FOLDER
# Run it again after a secret has changed. Files are read by kubectl itself; no secret is an argument of a command.
set -eu
folder=${1:?the keyring folder of doks-harbor}

secret() {
  name=$1
  shift
  # Server-side: else a copy of each secret would be kept in an annotation.
  kubectl create secret generic "$name" --type=Opaque --namespace spec-namespace "$@" --dry-run=client --output=yaml |
    kubectl label --local --filename=- --output=yaml app.kubernetes.io/managed-by=doks-harbor app.kubernetes.io/part-of=harbor |
    kubectl apply --server-side --force-conflicts --field-manager=doks-harbor --filename=-
}

kubectl create namespace spec-namespace --dry-run=client --output=yaml | kubectl apply --server-side --field-manager=doks-harbor --filename=-
secret redis-tls-proxy \
  --from-file=client-password="$folder/client-password" \
  --from-file=postgres-password="$folder/postgres-password" \
  --from-file=valkey-password="$folder/valkey-password"
secret spec-release-token \
  --from-file=tls.crt="$folder/harbor-token.crt" \
  --from-file=tls.key="$folder/harbor-token.key"
