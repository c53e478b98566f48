#!/bin/sh
# start.sh SCRATCH COMMAND…: supervisord in the foreground, which runs the command.
set -eu
dir=$1/supervisor-${HOLDFAST_GENERATION:-0}-$$
shift
mkdir -p "$dir"
cat >"$dir/supervisord.conf" <<CONF
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile=$dir/supervisord.pid
childlogdir=$dir
[program:server]
command=$*
stopwaitsecs=20
stdout_logfile=/dev/stderr
stdout_logfile_maxbytes=0
redirect_stderr=true
CONF
exec /usr/bin/supervisord -c "$dir/supervisord.conf"
