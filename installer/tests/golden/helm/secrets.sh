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
secret spec-release-proxy-client \
  --from-file=password="$folder/client-password" \
  --from-file=REDIS_PASSWORD="$folder/client-password"
secret spec-release-spaces \
  --from-file=REGISTRY_STORAGE_S3_ACCESSKEY="$folder/spaces-access-key" \
  --from-file=REGISTRY_STORAGE_S3_SECRETKEY="$folder/spaces-secret-key"
secret spec-release-admin \
  --from-file=HARBOR_ADMIN_PASSWORD="$folder/harbor-admin-password"
secret spec-release-encryption \
  --from-file=secretKey="$folder/harbor-secret-key"
secret spec-release-components \
  --from-file=secret="$folder/harbor-core-secret" \
  --from-file=CSRF_KEY="$folder/harbor-xsrf-key" \
  --from-file=JOBSERVICE_SECRET="$folder/harbor-jobservice-secret" \
  --from-file=REGISTRY_HTTP_SECRET="$folder/harbor-registry-secret"
secret spec-release-registry-login \
  --from-file=REGISTRY_PASSWD="$folder/harbor-registry-password" \
  --from-file=REGISTRY_HTPASSWD="$folder/harbor-registry-htpasswd"
secret spec-release-token \
  --from-file=tls.crt="$folder/harbor-token.crt" \
  --from-file=tls.key="$folder/harbor-token.key"
