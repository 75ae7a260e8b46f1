#!/bin/sh
# Puts the proxy and its configuration into the folder of Harbor's installer:
#   sudo ./install.sh HARBOR FOLDER
# HARBOR is the folder with harbor.yml.tmpl and prepare, FOLDER the keyring of doks-harbor. Run it again after either has changed.
set -eu
harbor=${1:?the folder of the Harbor installer}
folder=${2:?the keyring folder of doks-harbor}
here=$(dirname "$0")
umask 077

# Harbor's own template, with our keys in the place of its own.
awk '/^[a-z_]+:/ { skip = /^(hostname|https|harbor_admin_password|external_database|external_redis|storage_service):/ } !skip' "$harbor/harbor.yml.tmpl" >"$harbor/harbor.yml.new"
cat "$folder/harbor.yml" >>"$harbor/harbor.yml.new"
mv "$harbor/harbor.yml.new" "$harbor/harbor.yml"

install -d -m 755 "$harbor/redis-tls-proxy" "$harbor/redis-tls-proxy/config"
install -m 644 "$here"/redis-tls-proxy/* "$harbor/redis-tls-proxy/config/"
install -d -m 700 -o 65532 -g 65532 "$harbor/redis-tls-proxy/secret"
for secret in client-password postgres-password valkey-password; do
  install -m 400 -o 65532 -g 65532 "$folder/$secret" "$harbor/redis-tls-proxy/secret/$secret"
done
install -m 644 "$here/docker-compose.override.yml" "$harbor/docker-compose.override.yml"
