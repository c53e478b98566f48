package table

// The names of what several rows use.
const (
	www           = "www/index.html"
	wsgi          = "--chdir %APPS/gunicorn"
	jettyJar      = "/usr/share/java/jetty9-server.jar:/usr/share/java/jetty9-util.jar:/usr/share/java/jetty9-http.jar:/usr/share/java/jetty9-io.jar:/usr/share/java/servlet-api.jar"
	nettyEpollJar = ":/usr/share/java/netty-transport-native-epoll.jar:/usr/share/java/netty-transport-native-unix-common.jar"
	nettyJar      = "/usr/share/java/netty-common.jar:/usr/share/java/netty-buffer.jar:/usr/share/java/netty-transport.jar:/usr/share/java/netty-codec.jar:/usr/share/java/netty-codec-http.jar:/usr/share/java/netty-handler.jar:/usr/share/java/netty-resolver.jar"
)

// rustBuild uses Debian's compiler and crates alone.
const rustBuild = "cd %BUILD/hyper && RUSTC=/usr/bin/rustc CARGO_HOME=%BUILD/cargo /usr/bin/cargo build --config config.toml --release --offline --target-dir %BUILD/target"

// All returns every row, in the order in which they are shown.
func All() []Row {
	var all []Row
	for _, group := range [][]Row{proxies(), python(), scripts(), compiled(), words(), names()} {
		for _, r := range group {
			all = append(all, r.withDefaults())
		}
	}
	return all
}

// proxies are the web servers and proxies.
func proxies() []Row {
	return []Row{
		{
			Name: "nginx", Needs: []string{"nginx"}, Version: "nginx-light", Stop: "QUIT",
			Command: "/usr/sbin/nginx -g 'daemon off;' -c %DIR/nginx/nginx.conf", Files: []string{"nginx/nginx.conf"},
		},
		{
			Name: "nginx-reuseport", Needs: []string{"nginx"}, Version: "nginx-light", Stop: "QUIT",
			Command: "/usr/sbin/nginx -g 'daemon off;' -c %DIR/nginx/reuseport.conf", Files: []string{"nginx/reuseport.conf"},
			Caveat: "One socket for each worker: the switch spreads connections over the sockets of the live generation.",
		},
		{
			Name: "nginx-both-families", Needs: []string{"nginx"}, Version: "nginx-light", Stop: "QUIT",
			Command: "/usr/sbin/nginx -g 'daemon off;' -c %DIR/nginx/both.conf", Files: []string{"nginx/both.conf"},
			Addresses: []string{"127.0.0.1:%PORT", "[::1]:%PORT"},
			Caveat:    "`listen PORT; listen [::]:PORT;`, half of the load over each.",
		},
		{
			Name: "apache", Needs: []string{"apache2"}, Version: "apache2-bin", Stop: "WINCH",
			Command: "/usr/sbin/apache2 -DFOREGROUND -f %DIR/apache/httpd.conf", Files: []string{"apache/httpd.conf", www},
			Caveat: "One PID file for each generation (`PidFile …${HOLDFAST_GENERATION}`): it does not start beside a living one that is named in its own.",
		},
		{
			Name: "haproxy", Needs: []string{"haproxy"}, Version: "haproxy", Stop: "USR1",
			Command: "/usr/sbin/haproxy -db -f %DIR/haproxy/haproxy.cfg", Files: []string{"haproxy/haproxy.cfg"},
		},
		{
			Name: "haproxy-master", Needs: []string{"haproxy"}, Version: "haproxy", Stop: "USR1",
			Command: "/usr/sbin/haproxy -W -db -f %DIR/haproxy/haproxy.cfg", Files: []string{"haproxy/haproxy.cfg"},
		},
		{
			Name: "lighttpd", Needs: []string{"lighttpd"}, Version: "lighttpd", Stop: "INT", Flags: "--stop-signal INT",
			Command: "/usr/sbin/lighttpd -D -f %DIR/lighttpd/lighttpd.conf", Files: []string{"lighttpd/lighttpd.conf", www},
			Caveat: "Its graceful stop is SIGINT; SIGTERM breaks off what is under way.",
		},
		{
			Name: "caddy", Needs: []string{"caddy"}, Version: "caddy",
			Command: "/usr/bin/caddy run --config %DIR/caddy/Caddyfile --adapter caddyfile", Files: []string{"caddy/Caddyfile"},
			Caveat: "Its admin endpoint (localhost:2019) is held and handed over, too.",
		},
		{
			Name: "h2o", Needs: []string{"h2o"}, Version: "h2o",
			Command: "/usr/bin/h2o -m worker -c %DIR/h2o/h2o.conf", Files: []string{"h2o/h2o.conf", www},
		},
		{
			Name: "tinyproxy", Needs: []string{"tinyproxy"}, Version: "tinyproxy",
			Command: "/usr/bin/tinyproxy -d -c %DIR/tinyproxy/tinyproxy.conf", Files: []string{"tinyproxy/tinyproxy.conf"},
			Path: "http://stats.test/", Caveat: "It is asked for its own page of statistics.",
		},
		{
			Name: "varnish", Needs: []string{"varnish"}, Version: "varnish",
			Command: "/bin/sh -c 'exec /usr/sbin/varnishd -F -a 127.0.0.1:%PORT -n %DIR/$HOLDFAST_GENERATION -f %DIR/varnish/default.vcl -s malloc,16m'", Files: []string{"varnish/default.vcl"},
			Abrupt: true, Caveat: "Two must not have one working directory, so each generation has its own (`-n`). SIGTERM breaks off what is under way on kept connections, and only there.",
		},
	}
}

// python are Python's servers.
func python() []Row {
	return []Row{
		{
			Name: "gunicorn", Needs: []string{"gunicorn"}, Version: "gunicorn", Tells: true,
			Command: "/usr/bin/gunicorn " + wsgi + " -w 2 --bind 127.0.0.1:%PORT app:app",
			Caveat:  "Its default workers close every connection.",
		},
		{
			Name: "gunicorn-threads", Needs: []string{"gunicorn"}, Version: "gunicorn", Tells: true,
			Command: "/usr/bin/gunicorn " + wsgi + " -w 2 --threads 4 --bind 127.0.0.1:%PORT app:app",
		},
		{
			Name: "uvicorn", Needs: []string{"uvicorn"}, Version: "uvicorn", Tells: true,
			Command: "/usr/bin/uvicorn --app-dir %APPS/uvicorn --no-access-log --host 127.0.0.1 --port %PORT app:app",
		},
		{
			Name: "hypercorn", Needs: []string{"hypercorn"}, Version: "python3-hypercorn", Tells: true,
			Command: "/usr/bin/env PYTHONPATH=%APPS/uvicorn /usr/bin/hypercorn --bind 127.0.0.1:%PORT app:app",
		},
		{
			Name: "uwsgi", Needs: []string{"uwsgi", "uwsgi-python"}, Version: "uwsgi-core", Tells: true,
			Command: "/usr/bin/uwsgi --plugin python3 --master --die-on-term --processes 2 --http-socket 127.0.0.1:%PORT --wsgi-file %APPS/gunicorn/app.py --callable app --disable-logging",
			Caveat:  "Without `--die-on-term` it takes SIGTERM for a reload.",
		},
		{
			Name: "waitress", Needs: []string{"waitress"}, Version: "python3-waitress", Tells: true,
			Command: "/usr/bin/env PYTHONPATH=%APPS/gunicorn /usr/bin/waitress-serve --listen=127.0.0.1:%PORT app:app",
		},
		{
			Name: "python-http.server", Needs: []string{"python3"}, Version: "python3", Flags: "--drain-wait-connections", Files: []string{www},
			Command: "/usr/bin/python3 -m http.server --bind 127.0.0.1 --directory %DIR/www %PORT",
			Caveat:  "SIGTERM kills it: `--drain-wait-connections` holds the signal back until nobody is connected.",
		},
	}
}

// scripts are the servers of Node, PHP, Ruby and Perl.
func scripts() []Row {
	return []Row{
		{
			Name: "node", Needs: []string{"node"}, Version: "nodejs", Tells: true,
			Command: "/usr/bin/env PORT=%PORT node %APPS/node/server.js",
		},
		{
			Name: "node-plain", Needs: []string{"node"}, Version: "nodejs", Tells: true,
			Command: "node %DIR/node/plain.js", Files: []string{"node/plain.js"},
			Abrupt: true, Caveat: "Nothing is said about its end: SIGTERM breaks off what is under way on kept connections, and only there.",
		},
		{
			Name: "node-cluster", Needs: []string{"node"}, Version: "nodejs", Tells: true,
			Command: "node %DIR/node/cluster.js", Files: []string{"node/cluster.js"},
		},
		{
			Name: "http-server", Needs: []string{"node", "npm", "http-server"}, Version: "npm http-server",
			Command: "http-server %DIR/www -a 127.0.0.1 -p %PORT -s", Files: []string{www},
			Abrupt: true, Caveat: "It ends at once on SIGTERM: what is under way on kept connections is broken off, and only there.",
		},
		{
			Name: "php-builtin", Needs: []string{"php"}, Version: "php8.2-cli", Tells: true,
			Command: "/usr/bin/php -S 127.0.0.1:%PORT %DIR/php/index.php", Files: []string{"php/index.php"},
		},
		{
			Name: "php-fpm", Needs: []string{"php-fpm"}, Version: "php8.2-fpm", Stop: "QUIT", Tells: true,
			Command: "/usr/sbin/php-fpm8.2 -F -y %DIR/phpfpm/tcp.conf", Files: []string{"phpfpm/tcp.conf", "php/index.php"},
			Protocol: fastCGI(),
		},
		{
			Name: "php-fpm-unix", Needs: []string{"php-fpm"}, Version: "php8.2-fpm", Stop: "QUIT", Tells: true,
			Command: "/usr/sbin/php-fpm8.2 -F -y %DIR/phpfpm/unix.conf", Files: []string{"phpfpm/unix.conf", "php/index.php"},
			Protocol: fastCGI(), Network: "unix", Addresses: []string{"%DIR/fpm.sock"},
			Caveat: "php-fpm connects to its path before it binds, and does not start when somebody answers: the next generation is told that nobody does.",
		},
		{
			Name: "puma", Needs: []string{"puma"}, Version: "puma", Tells: true,
			Command: "/usr/bin/puma -e production -b tcp://127.0.0.1:%PORT %DIR/puma/config.ru", Files: []string{"puma/config.ru"},
		},
		{
			Name: "puma-cluster", Needs: []string{"puma"}, Version: "puma", Tells: true,
			Command: "/usr/bin/puma -e production -w 2 -b tcp://127.0.0.1:%PORT %DIR/puma/config.ru", Files: []string{"puma/config.ru"},
			Caveat: "Where busy kept connections have taken all of a worker's threads (5 by default), Puma 5.6 waits for a free one before it looks for its stop command, so that its drain lasts until they leave, or the drain timeout. That is so without holdfast, too.",
		},
		{
			Name: "unicorn", Needs: []string{"unicorn"}, Version: "unicorn", Stop: "QUIT", Tells: true, Flags: "--stop-signal QUIT",
			Command: "/usr/bin/unicorn -E production -l 127.0.0.1:%PORT %DIR/puma/config.ru", Files: []string{"puma/config.ru"},
			Caveat: "Its graceful stop is SIGQUIT; SIGTERM breaks off what is under way.",
		},
		{
			Name: "starman", Needs: []string{"starman"}, Version: "starman", Stop: "QUIT", Tells: true, Flags: "--stop-signal QUIT",
			Command: "/usr/bin/starman --workers 4 --listen 127.0.0.1:%PORT %DIR/perl/app.psgi", Files: []string{"perl/app.psgi"},
			Caveat: "Its graceful stop is SIGQUIT.",
		},
	}
}

// compiled are the servers of Java, Go and Rust.
func compiled() []Row {
	return []Row{
		{
			Name: "java-httpserver", Needs: []string{"javac"}, Version: "openjdk-17-jdk-headless", Tells: true,
			Command: "/usr/bin/java -cp %BUILD Web %PORT", Files: []string{"java/Web.java"},
			Build:  []string{"/usr/bin/javac -d %BUILD %BUILD/java/Web.java"},
			Abrupt: true, Caveat: "Nothing is said about its end: SIGTERM breaks off what is under way on kept connections, and only there.",
		},
		{
			Name: "jetty", Needs: []string{"javac", "jetty"}, Version: "libjetty9-java", Tells: true,
			Command: "/usr/bin/java -cp %BUILD:" + jettyJar + " Web %PORT", Files: []string{"jetty/Web.java"},
			Build: []string{"/usr/bin/javac -cp " + jettyJar + " -d %BUILD %BUILD/jetty/Web.java"},
		},
		{
			Name: "netty", Needs: []string{"javac", "netty"}, Version: "libnetty-java", Tells: true,
			Command: "/usr/bin/java -cp %BUILD:" + nettyJar + " Web %PORT", Files: []string{"netty/Web.java"},
			Build: []string{"/usr/bin/javac -cp " + nettyJar + " -d %BUILD %BUILD/netty/Web.java"},
		},
		{
			Name: "netty-epoll", Needs: []string{"javac", "netty", "gcc", "libc"}, Version: "libnetty-java", Tells: true,
			Command: "/usr/bin/java -Djava.library.path=%BUILD -cp %BUILD:" + nettyJar + nettyEpollJar + " Web %PORT", Files: []string{"netty/Web.java", "netty/build.sh"},
			Build: []string{"sh %BUILD/netty/build.sh %BUILD " + nettyJar + nettyEpollJar},
			Flags: "--takeover-at socket",
			Caveat: "The native transport puts its socket into an epoll set before it binds it: a socket that takes its place at bind is not in there, " +
				"and holdfast says so in a warning. With `--takeover-at socket` the socket is holdfast's from the beginning.",
		},
		{
			Name: "go-net-http", Version: "go", Tells: true,
			Command: "%BUILD/gohttp -shutdown 127.0.0.1:%PORT", Build: []string{"go build -o %BUILD/gohttp ./e2e/servers/gohttp"},
		},
		{
			Name: "go-net-http-plain", Version: "go", Tells: true,
			Command: "%BUILD/gohttp 127.0.0.1:%PORT", Build: []string{"go build -o %BUILD/gohttp ./e2e/servers/gohttp"},
			Abrupt: true, Caveat: "Nothing is said about its end: SIGTERM breaks off what is under way on kept connections, and only there.",
		},
		{
			Name: "go-fasthttp", Version: "module github.com/valyala/fasthttp", Tells: true,
			Command: "%BUILD/gofasthttp 127.0.0.1:%PORT", Build: []string{"cd %APPS/gofasthttp && GOWORK=off go build -o %BUILD/gofasthttp ."},
		},
		{
			Name: "prometheus", Needs: []string{"prometheus"}, Version: "prometheus", Files: []string{"prometheus/prometheus.yml"},
			Command:    "/usr/bin/prometheus --config.file=%DIR/prometheus/prometheus.yml --storage.tsdb.path=%DIR/data --web.listen-address=127.0.0.1:%PORT",
			Sequential: true, Path: "/-/healthy",
			Caveat: "It locks its data. It listens while it reads them and answers 503 until then.",
		},
		{
			Name: "rust-hyper", Needs: []string{"rust", "hyper", "tokio", "gcc", "libc"}, Version: "librust-hyper-dev", Tells: true,
			Command: "%BUILD/target/release/web 127.0.0.1:%PORT", Files: []string{"hyper/main.rs", "hyper/Cargo.toml", "hyper/config.toml"},
			Build: []string{rustBuild},
		},
	}
}
