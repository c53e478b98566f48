#!/bin/sh
# build.sh DIR CLASSPATH: Web.java with Netty's native transport (epoll) instead of NIO, to DIR. Debian's package has the
# transport's classes and not its library: that is built here from Debian's source of the same version.
set -eu
cd "$1"
mkdir -p lists/partial epoll
echo 'deb-src http://deb.debian.org/debian bookworm main' >sources.list
apt="apt-get -qq -o Dir::Etc::sourcelist=$1/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$1/lists -o APT::Sandbox::User=root"
$apt update
$apt source --download-only netty
tar xf netty_*.orig.tar.xz
unix=$(echo netty-*/transport-native-unix-common/src/main/c)
jdk=$(dirname "$(dirname "$(readlink -f /usr/bin/javac)")")
gcc -shared -fPIC -O2 -w -D_GNU_SOURCE -I"$jdk/include" -I"$jdk/include/linux" -I"$unix" \
	-o "libnetty_transport_native_epoll_$(uname -m).so" netty-*/transport-native-epoll/src/main/c/*.c "$unix"/*.c -ldl
sed 's/channel\.nio\.Nio/channel.epoll.Epoll/; s/channel\.socket\.nio\.Nio/channel.epoll.Epoll/; s/NioEventLoop/EpollEventLoop/g; s/NioServerSocket/EpollServerSocket/g' \
	netty/Web.java >epoll/Web.java
javac -cp "$2" -d . epoll/Web.java
