#!/bin/sh
# start.sh SCRATCH PORT [USER]: nginx in the foreground, with a configuration and all its files in SCRATCH, so that it runs
# as any user and several can run at once. Started as root it binds as root, and its workers are of the user. It answers with the generation that it was started as. It must be stopped with
# SIGQUIT: on SIGTERM nginx drops what it has begun.
set -eu
dir=$1/nginx-${HOLDFAST_GENERATION:-0}-$$
mkdir -p "$dir"
cat >"$dir/nginx.conf" <<CONF
daemon off;
${3:+user $3;}
worker_processes 2;
pid $dir/nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path $dir/body;
	proxy_temp_path $dir/proxy;
	fastcgi_temp_path $dir/fastcgi;
	uwsgi_temp_path $dir/uwsgi;
	scgi_temp_path $dir/scgi;
	keepalive_requests 1000000;
	server {
		listen 127.0.0.1:$2;
		add_header X-Generation ${HOLDFAST_GENERATION:-0} always;
		location = / { return 200 "generation=${HOLDFAST_GENERATION:-0}\n"; }
		location = /healthz { return 200 "ok\n"; }
	}
}
CONF
exec /usr/sbin/nginx -e stderr -c "$dir/nginx.conf"
