package table

import "holdfast/e2e/load"

// asUser is how root starts a server as somebody else, as an image's USER does.
func asUser(name string) string {
	return "/usr/bin/setpriv --reuid=" + name + " --regid=" + name + " --clear-groups "
}

// fastCGI asks for the application of php/index.php.
func fastCGI() load.Protocol { return script{load.FastCGI{Script: "%DIR/php/index.php"}} }

// words are the servers of plain TCP protocols.
func words() []Row {
	redis := load.Plain{Each: load.Step{Send: "PING\r\n", Want: "+PONG", Line: true}}
	return []Row{
		{
			Name: "memcached", Needs: []string{"memcached"}, Version: "memcached",
			Command:  "/usr/bin/memcached -u nobody -l 127.0.0.1 -p %PORT",
			Protocol: load.Plain{Each: load.Step{Send: "version\r\n", Want: "VERSION ", Line: true}},
		},
		{
			Name: "redis", Needs: []string{"redis"}, Version: "redis-server",
			Command:  "/usr/bin/redis-server --bind 127.0.0.1 --port %PORT --dir %DIR --save ''",
			Protocol: redis,
			Caveat:   "As a cache: the new generation begins empty.",
		},
		{
			Name: "redis-appendonly", Needs: []string{"redis"}, Version: "redis-server", Sequential: true,
			Command:  "/usr/bin/redis-server --bind 127.0.0.1 --port %PORT --dir %DIR --appendonly yes",
			Protocol: redis, Excused: "-LOADING", Abrupt: true,
			Caveat: "Two must not write one file, so one is stopped while clients come. Redis ends without reading what it has just accepted, and the kernel answers that with RST: " +
				"those are the reset ones. And it accepts before it has read its file, and answers `-LOADING` until then: those are the failed ones.",
		},
		{
			Name: "nats", Needs: []string{"nats"}, Version: "nats-server",
			Command: "/usr/sbin/nats-server -a 127.0.0.1 -p %PORT",
			Protocol: load.Plain{
				Hello: load.Step{Want: "INFO ", Line: true},
				Each:  load.Step{Send: "PING\r\n", Want: "PONG", Line: true},
			},
		},
		{
			Name: "mosquitto", Needs: []string{"mosquitto"}, Version: "mosquitto",
			Command: "/usr/sbin/mosquitto -c %DIR/mosquitto/mosquitto.conf", Files: []string{"mosquitto/mosquitto.conf"},
			Protocol: load.Plain{
				// CONNECT of MQTT 3.1.1 with a clean session and a name that the broker chooses; CONNACK; PINGREQ and PINGRESP.
				Hello: load.Step{Send: "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", Want: "\x20\x02\x00\x00"},
				Each:  load.Step{Send: "\xc0\x00", Want: "\xd0\x00"},
			},
		},
		{
			Name: "beanstalkd", Needs: []string{"beanstalkd"}, Version: "beanstalkd",
			Command:  "/usr/bin/beanstalkd -l 127.0.0.1 -p %PORT",
			Protocol: load.Plain{Each: load.Step{Send: "use a\r\n", Want: "USING a", Line: true}},
		},
		{
			Name: "postgresql", Needs: []string{"postgresql"}, Version: "postgresql-15", Sequential: true, Stop: "INT", Flags: "--stop-signal INT",
			Caveat:  "Its data directory is locked. SIGINT ends the sessions; SIGTERM would wait for their clients. The load asks whether it speaks TLS.",
			Command: asUser("postgres") + "/usr/lib/postgresql/15/bin/postgres -D %DIR/data -p %PORT -h 127.0.0.1 -k ''",
			Setup: []string{
				"install -d -o postgres -g postgres -m 700 %DIR/data",
				asUser("postgres") + "/usr/lib/postgresql/15/bin/initdb -D %DIR/data -A trust",
			},
			// SSLRequest, and "no".
			Protocol: load.Plain{Each: load.Step{Send: "\x00\x00\x00\x08\x04\xd2\x16\x2f", Want: "N"}}, Rate: 60, Kept: -1,
		},
		{
			Name: "pgbouncer", Needs: []string{"pgbouncer", "postgresql"}, Version: "pgbouncer", Stop: "INT", Flags: "--stop-signal INT",
			Command: asUser("postgres") + "/usr/sbin/pgbouncer %DIR/pgbouncer/pgbouncer.ini", Files: []string{"pgbouncer/pgbouncer.ini"},
			Protocol: load.Plain{Each: load.Step{Send: "\x00\x00\x00\x08\x04\xd2\x16\x2f", Want: "N"}}, Kept: -1,
		},
		{
			Name: "sshd", Needs: []string{"sshd", "ssh-keygen"}, Version: "openssh-server",
			Command: "/usr/sbin/sshd -D -e -f %DIR/sshd/sshd_config", Files: []string{"sshd/sshd_config"},
			Setup:    []string{"mkdir -p /run/sshd && ssh-keygen -q -t ed25519 -N '' -f %DIR/host_key"},
			Protocol: load.Plain{Hello: load.Step{Want: "SSH-2.0-", Line: true}}, Rate: 20, New: 2, Kept: -1,
		},
		{
			Name: "dropbear", Needs: []string{"dropbear"}, Version: "dropbear-bin",
			Command:  "/usr/sbin/dropbear -F -E -r %DIR/host_key -p 127.0.0.1:%PORT -P %DIR/dropbear.pid",
			Setup:    []string{"/usr/bin/dropbearkey -t ed25519 -f %DIR/host_key"},
			Protocol: load.Plain{Hello: load.Step{Want: "SSH-2.0-", Line: true}}, Rate: 20, New: 2, Kept: -1,
		},
	}
}

// names are the servers of datagrams.
func names() []Row {
	zone := load.DNS{Name: "www.example.test."}
	return []Row{
		{
			Name: "unbound", Needs: []string{"unbound"}, Version: "unbound", Network: "udp", Protocol: zone,
			Command: "/usr/sbin/unbound -d -p -c %DIR/unbound/unbound.conf", Files: []string{"unbound/unbound.conf"},
		},
		{
			Name: "dnsmasq", Needs: []string{"dnsmasq"}, Version: "dnsmasq-base", Network: "udp", Protocol: zone,
			Command: "/usr/sbin/dnsmasq -k -C /dev/null -R -h -x %DIR/dnsmasq.pid -a 127.0.0.1 --bind-interfaces -p %PORT -A /example.test/192.0.2.1",
		},
		{
			Name: "nsd", Needs: []string{"nsd"}, Version: "nsd", Network: "udp", Protocol: zone,
			Command: "/usr/sbin/nsd -d -c %DIR/nsd/nsd.conf", Files: []string{"nsd/nsd.conf", "nsd/example.zone"},
			Setup: []string{"chown -R nsd %DIR"},
		},
		{
			Name: "knot", Needs: []string{"knot"}, Version: "knot", Network: "udp", Protocol: zone,
			Command: "/usr/sbin/knotd -c %DIR/knot/knot.conf", Files: []string{"knot/knot.conf", "nsd/example.zone"},
			Setup:      []string{"chown -R knot %DIR"},
			Sequential: true, Caveat: "It does not start beside a living one that is named in its PID file.",
		},
		{
			Name: "bind9", Needs: []string{"bind9"}, Version: "bind9", Network: "udp", Protocol: zone,
			Command: "/usr/sbin/named -f -u bind -c %DIR/named/named.conf", Files: []string{"named/named.conf", "nsd/example.zone"},
			Setup: []string{"chown -R bind %DIR"},
		},
	}
}
