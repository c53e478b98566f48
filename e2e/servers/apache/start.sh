#!/bin/sh
# start.sh SCRATCH PORT [USER]: Apache in the foreground, with a configuration and all its files in SCRATCH. It answers
# with the generation that it was started as. Started as root it binds as root, and its workers are of the user.
set -eu
dir=$1/apache-${HOLDFAST_GENERATION:-0}-$$
mkdir -p "$dir/www"
echo "generation=${HOLDFAST_GENERATION:-0}" >"$dir/www/index.html"
echo ok >"$dir/www/healthz"
chmod -R a+rX "$dir"
modules=/usr/lib/apache2/modules
cat >"$dir/apache.conf" <<CONF
ServerRoot $dir
ServerName localhost
DefaultRuntimeDir $dir
PidFile $dir/apache.pid
ErrorLog /dev/stderr
LogLevel crit
Mutex sem
LoadModule mpm_prefork_module $modules/mod_mpm_prefork.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule dir_module $modules/mod_dir.so
LoadModule headers_module $modules/mod_headers.so
Listen 127.0.0.1:$2
${3:+User $3}
StartServers 8
MinSpareServers 8
MaxKeepAliveRequests 0
DocumentRoot $dir/www
DirectoryIndex index.html
Header always set X-Generation ${HOLDFAST_GENERATION:-0}
CONF
exec /usr/sbin/apache2 -D FOREGROUND -f "$dir/apache.conf"
