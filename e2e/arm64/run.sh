#!/bin/sh
# Runs holdfast and the tests of its system calls on arm64: Debian's arm64 kernel in an emulated machine. It takes some
# minutes, needs root for apt, and exits with 0 only if everything in there passed.
set -eu
cd "$(dirname "$0")/../.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/holdfast-arm64
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$cache/lists/partial" "$cache/archives/partial"

for need in qemu-system-aarch64:qemu-system-arm cpio:cpio; do
	command -v "${need%%:*}" >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${need##*:}" >/dev/null
done

# A package system of its own: this machine's is not to learn of a foreign architecture.
arm() {
	tool=$1
	shift
	"$tool" -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
		-o Dir::State::lists="$cache/lists" -o Dir::Cache="$cache" -o Dir::State::status=/dev/null "$@"
}
if [ ! -e "$cache/vmlinuz" ]; then
	arm apt-get update
	kernel=$(arm apt-cache depends linux-image-cloud-arm64 | sed -n 's/ *Depends: //p' | head -n 1)
	(cd "$work" && arm apt-get download "$kernel" busybox-static && for deb in ./*.deb; do dpkg-deb -x "$deb" x; done)
	cp "$work/x/bin/busybox" "$cache/busybox"
	cp "$work"/x/boot/vmlinuz-* "$cache/vmlinuz"
fi

root=$work/root
mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/run" "$root/etc"
cp "$cache/busybox" "$root/bin/"
for name in sh mount ip poweroff cat echo wget sleep ls kill uname grep test true sed chmod mkdir env readlink; do
	ln -s busybox "$root/bin/$name"
done
mkdir -p "$root/usr"
ln -s ../bin "$root/usr/bin"
printf 'root:x:0:0:root:/:/bin/sh\n' >"$root/etc/passwd"
export GOARCH=arm64 CGO_ENABLED=0
go build -tags holdfast_entry -trimpath -ldflags '-s -w -E holdfast_entry -checklinkname=0' -o "$root/bin/holdfast" .
go build -trimpath -ldflags '-s -w' -o "$root/bin/server" ./e2e/servers/naughty
for package in handoff/takeover handoff/port reaper reaper/catch; do
	go test -c -o "$root/bin/$(basename "$package").test" "./$package"
done
cp e2e/arm64/init "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/initrd"

timeout 1200 qemu-system-aarch64 -M virt -cpu max -smp 2 -m 1024 -nographic -no-reboot -net none \
	-kernel "$cache/vmlinuz" -initrd "$work/initrd" -append "console=ttyAMA0 quiet panic=-1" </dev/null | tee "$work/log" | sed 's/\r$//'
grep -q '^ALL PASSED' "$work/log"
