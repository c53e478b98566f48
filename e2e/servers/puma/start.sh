#!/bin/sh
# start.sh SCRATCH PORT: puma as `bundle exec` starts it, from a Gemfile that names Debian's. It answers with the
# generation that it was started as.
set -eu
dir=$1/puma-${HOLDFAST_GENERATION:-0}-$$
mkdir -p "$dir"
echo 'gem "puma"' >"$dir/Gemfile"
cat >"$dir/config.ru" <<'RACK'
generation = ENV.fetch("HOLDFAST_GENERATION", "0")
run lambda { |env|
  body = env["PATH_INFO"] == "/healthz" ? "ok\n" : "generation=#{generation} pid=#{Process.pid}\n"
  [200, {"Content-Type" => "text/plain", "X-Generation" => generation}, [body]]
}
RACK
cd "$dir"
export HOME="$dir"
exec /usr/bin/bundle exec puma --quiet --bind "tcp://127.0.0.1:$2" config.ru
