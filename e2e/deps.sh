#!/bin/sh
# Installs what the end-to-end tests need and this machine lacks, from Debian's packages (and npm's). Run it as often as you like:
# it prints one line for each thing that it installed, and nothing when nothing was missing.
#
#   e2e/deps.sh          everything
#   e2e/deps.sh nginx    only the named ones (see the list below)
set -eu

# name, the file that shows that it is there (absolute: another python or node may come first in PATH), package
known="
gunicorn /usr/bin/gunicorn gunicorn
uvicorn /usr/bin/uvicorn uvicorn
nginx /usr/sbin/nginx nginx-light
runc /usr/sbin/runc runc
ps /usr/bin/ps procps
unshare /usr/bin/unshare util-linux
setpriv /usr/bin/setpriv util-linux
ip /usr/sbin/ip iproute2
node node nodejs
npm /usr/bin/npm npm
gosu /usr/sbin/gosu gosu
tini /usr/bin/tini tini
dumb-init /usr/bin/dumb-init dumb-init
catatonit /usr/bin/catatonit catatonit
python3 /usr/bin/python3 python3
apache /usr/sbin/apache2 apache2-bin
bundle /usr/bin/bundle ruby-bundler
puma /usr/bin/puma puma
supervisord /usr/bin/supervisord supervisor
apache2 /usr/sbin/apache2 apache2-bin
bind9 /usr/sbin/named bind9
beanstalkd /usr/bin/beanstalkd beanstalkd
caddy /usr/bin/caddy caddy
dnsmasq /usr/sbin/dnsmasq dnsmasq-base
dropbear /usr/sbin/dropbear dropbear-bin
gcc /usr/bin/gcc gcc
h2o /usr/bin/h2o h2o
haproxy /usr/sbin/haproxy haproxy
http-server http-server npm:http-server@14.1.1
hyper /usr/share/doc/librust-hyper-dev librust-hyper-dev
hypercorn /usr/bin/hypercorn python3-hypercorn
javac /usr/bin/javac default-jdk-headless
jetty /usr/share/java/jetty9-server.jar libjetty9-java
knot /usr/sbin/knotd knot
libc /usr/include/stdio.h libc6-dev
lighttpd /usr/sbin/lighttpd lighttpd
memcached /usr/bin/memcached memcached
mosquitto /usr/sbin/mosquitto mosquitto
nats /usr/sbin/nats-server nats-server
mmdebstrap /usr/bin/mmdebstrap mmdebstrap
netty /usr/share/java/netty-codec-http.jar libnetty-java
nsd /usr/sbin/nsd nsd
pgbouncer /usr/sbin/pgbouncer pgbouncer
php /usr/bin/php8.2 php8.2-cli
php-fpm /usr/sbin/php-fpm8.2 php8.2-fpm
postgresql /usr/lib/postgresql/15/bin/postgres postgresql-15
prometheus /usr/bin/prometheus prometheus
redis /usr/bin/redis-server redis-server
pm2 pm2 npm:pm2@7.0.4
rust /usr/bin/cargo cargo
s6 /usr/bin/s6-svscan s6
sshd /usr/sbin/sshd openssh-server
ssh-keygen /usr/bin/ssh-keygen openssh-client
starman /usr/bin/starman starman
start_server /usr/bin/start_server libserver-starter-perl
tinyproxy /usr/bin/tinyproxy tinyproxy
tokio /usr/share/doc/librust-tokio-dev librust-tokio-dev
unbound /usr/sbin/unbound unbound
unicorn /usr/bin/unicorn unicorn
uwsgi /usr/bin/uwsgi uwsgi-core
uwsgi-python /usr/lib/uwsgi/plugins/python3_plugin.so uwsgi-plugin-python3
varnish /usr/sbin/varnishd varnish
waitress /usr/bin/waitress-serve python3-waitress
wrk /usr/bin/wrk wrk
zsh /usr/bin/zsh zsh
chromium /usr/bin/chromium chromium
fish /usr/bin/fish fish
"

missing=""
for want in ${*:-gunicorn uvicorn nginx runc ps unshare setpriv ip node npm gosu apache bundle puma supervisord tini dumb-init catatonit python3 haproxy php-fpm memcached unbound knot zsh fish h2o}; do
	line=$(printf '%s' "$known" | grep "^$want ") || { echo "deps.sh: unknown: $want" >&2; exit 2; }
	# shellcheck disable=SC2086 # three words, none of which holds a space
	set -- $line
	command -v "$2" >/dev/null 2>&1 || [ -e "$2" ] || missing="$missing $3"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "deps.sh: missing:$missing (run this script as root, or: apt-get install --no-install-recommends$missing)" >&2
	exit 1
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# No daemon of a package just installed may start here: nginx's would take port 80.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$log" "$policy"' EXIT
fi
apt() {
	apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@" >"$log" 2>&1 </dev/null || {
		cat "$log" >&2
		echo "deps.sh: apt-get $* failed" >&2
		exit 1
	}
}
apt update
for package in $(printf '%s\n' $missing | sort -u); do
	case $package in
	npm:*)
		npm install --global --no-audit --no-fund --loglevel=error "${package#npm:}" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
		echo "installed ${package#npm:}"
		continue
		;;
	esac
	apt install -y --no-install-recommends "$package"
	echo "installed $package $(dpkg-query -W -f '${Version}' "$package")"
done
