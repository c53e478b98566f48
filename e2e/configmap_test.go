package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// watcher is a holdfast with a well-behaved server that watches paths.
type watcher struct {
	*harness.Holdfast
	address string
}

func watch(t *testing.T, o harness.Options, paths ...string) *watcher {
	t.Helper()
	w := &watcher{address: fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))}
	flags := []string{"--listen", w.address, "--settle", "50ms", "--watch-debounce", "50ms", "-v"}
	for _, path := range paths {
		flags = append(flags, "--watch", path)
	}
	o.Flags = append(flags, o.Flags...)
	if o.Command == nil {
		o.Command = []string{harness.Naughty(t)}
	}
	w.Holdfast = harness.Run(t, o)
	w.WaitLive(1, within)
	return w
}

// silent does something and waits until the watcher has looked at it and found nothing new.
func (w *watcher) silent(t *testing.T, what string, do func()) {
	t.Helper()
	mark, before := w.Mark(), w.Status()
	do()
	if line := w.WaitLogAfter(mark, "nothing new in them|watched content changed", within); strings.Contains(line, "changed") {
		t.Errorf("%s is a change: %s", what, line)
	}
	if after := w.Status(); after.Live != before.Live || after.Handoff != nil || harness.Handoffs(after, "") != harness.Handoffs(before, "") {
		t.Errorf("%s: generation %d → %d, %d → %d handoffs", what, before.Live, after.Live, harness.Handoffs(before, ""), harness.Handoffs(after, ""))
	}
}

// handsOver does something and waits until the next generation is live, by just one handoff, with another configuration,
// which status, log and metrics name alike.
func (w *watcher) handsOver(t *testing.T, what string, do func()) *status.Snapshot {
	t.Helper()
	before, mark := w.Status(), w.Mark()
	do()
	after := w.WaitLive(before.Live+1, within)
	if n := harness.Handoffs(after, "") - harness.Handoffs(before, ""); n != 1 || after.Last.Trigger != "watch" {
		t.Errorf("%s: %d handoffs, the last by %s; want one by watch", what, n, after.Last.Trigger)
	}
	if after.ConfigHash == before.ConfigHash || after.ConfigHash != after.ConfigLatest {
		t.Errorf("%s: the configuration's hash is %s, was %s, is %s on disk", what, after.ConfigHash, before.ConfigHash, after.ConfigLatest)
	}
	for _, g := range after.Generations {
		if g.Number == after.Live && g.ConfigHash != after.ConfigHash {
			t.Errorf("%s: generation %d started from %s, the status says %s", what, g.Number, g.ConfigHash, after.ConfigHash)
		}
	}
	w.WaitLogAfter(mark, fmt.Sprintf("generation starting.* generation=%d .*config=%s", after.Live, after.ConfigHash), within)
	metrics := w.Metrics()
	for _, want := range []string{
		`holdfast_config_hash_info{hash="` + after.ConfigHash + `"} 1`, `holdfast_config_latest_hash_info{hash="` + after.ConfigHash + `"} 1`,
		"holdfast_config_current 1", "holdfast_config_rejected 0",
	} {
		if !strings.Contains(metrics, "\n"+want+"\n") {
			t.Errorf("%s: the metrics do not say %s", what, want)
		}
	}
	return after
}

// TestVolumesTogether: a ConfigMap, one key of a Secret and a projected volume that change together are one handoff.
func TestVolumesTogether(t *testing.T) {
	t.Parallel()
	config := newVolume(t, map[string]string{"app.conf": "1", "other": "same"})
	secret := newVolume(t, map[string]string{"tls.key": "1", "tls.crt": "1"})
	projected := newVolume(t, map[string]string{"ca.crt": "1"})
	w := watch(t, harness.Options{Flags: []string{"--watch-debounce", "3s"}}, config.dir, secret.path("tls.key"), projected.dir)
	l := startLoad(t, w.address)
	w.handsOver(t, "all three", func() {
		config.publish(t, map[string]string{"app.conf": "2", "other": "same"})
		secret.publish(t, map[string]string{"tls.key": "2", "tls.crt": "2"})
		projected.publish(t, map[string]string{"ca.crt": "2"})
	})
	w.silent(t, "a key that is not watched", func() { secret.publish(t, map[string]string{"tls.key": "2", "tls.crt": "3"}) })
	w.handsOver(t, "the key that is", func() { secret.publish(t, map[string]string{"tls.key": "3", "tls.crt": "3"}) })
	w.WaitGone(within)
	nothingLost(t, l, nil)
}

// TestVolumeContents: the content decides and nothing else. Binary data count bit by bit; the same again, keys that have
// gone and a ConfigMap that was deleted are no handoff; what comes back changed is one.
func TestVolumeContents(t *testing.T) {
	t.Parallel()
	binary := "\x00\xff\xfe" + strings.Repeat("\x00\x01\r\n", 100<<10) + "end"
	v := newVolume(t, map[string]string{"bin": binary, "a": "1", "b": "1"})
	w := watch(t, harness.Options{}, v.dir)
	w.handsOver(t, "one bit of a binary key", func() {
		v.publish(t, map[string]string{"bin": strings.Replace(binary, "end", "enD", 1), "a": "1", "b": "1"})
	})
	now := func(a string) map[string]string { return map[string]string{"bin": "\xff", "a": a} }
	w.handsOver(t, "a key that has changed, beside one that has gone", func() { v.publish(t, now("1")) })
	w.silent(t, "the same again", func() { v.publish(t, now("1")) })
	w.handsOver(t, "a new key", func() { v.publish(t, map[string]string{"bin": "\xff", "a": "1", "c": "new"}) })
	w.silent(t, "a key that has gone", func() { v.publish(t, now("1")) })
	w.silent(t, "a ConfigMap that was deleted", func() { v.publish(t, nil) })
	if s := w.Status(); s.ConfigLatest != "" || s.ConfigHash == "" || s.ConfigRejected != "" {
		t.Errorf("with the ConfigMap deleted: live %q, on disk %q, rejected %q", s.ConfigHash, s.ConfigLatest, s.ConfigRejected)
	}
	w.silent(t, "the same that comes back", func() { v.publish(t, now("1")) })
	w.handsOver(t, "another", func() { v.publish(t, now("2")) })
}

// TestOptionalVolume: what is not there at the start may appear: keys of an optional ConfigMap, a directory, its parent.
func TestOptionalVolume(t *testing.T) {
	t.Parallel()
	v, dir := newVolume(t, nil), t.TempDir()
	later := filepath.Join(dir, "parent", "later.conf")
	w := watch(t, harness.Options{}, v.dir, v.path("one"), later)
	for _, path := range []string{v.path("one"), later} {
		w.WaitLog("watch: "+path+" does not exist", within)
		if s := w.Status(); !strings.Contains(fmt.Sprint(s.Warnings), path+" does not exist") {
			t.Errorf("the status does not warn of %s: %q", path, s.Warnings)
		}
	}
	if s := w.Status(); s.ConfigHash != "" {
		t.Errorf("the hash of nothing is %s", s.ConfigHash)
	}
	w.handsOver(t, "the optional ConfigMap", func() { v.publish(t, map[string]string{"one": "1"}) })
	w.handsOver(t, "the file whose directory was missing", func() {
		if err := os.MkdirAll(filepath.Dir(later), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(later, []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	w.WaitStatus("no warning is left", within, func(s *status.Snapshot) bool { return len(s.Warnings) == 0 })
}

// TestSubPath: the kubelet never updates what is mounted with subPath, so a watch on it is a mistake that has to be said.
func TestSubPath(t *testing.T) {
	needPID1(t)
	t.Parallel()
	v, pod := newVolume(t, map[string]string{"app.conf": "1"}), t.TempDir()
	file := filepath.Join(pod, "app.conf")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	mount := fmt.Sprintf(`mount --bind %s %s && exec "$@"`, v.path("app.conf"), file)
	// The file by its name, and the directory that it stands in.
	w := watch(t, harness.Options{PID1: true, Wrap: []string{"sh", "-c", mount, "sh"}}, file, pod, v.dir)
	want := file + " is a subPath mount: the kubelet never updates it"
	w.WaitLog("level=WARN.*"+want, within)
	if s := w.Status(); !strings.Contains(fmt.Sprint(s.Warnings), want) {
		t.Errorf("the status does not warn: %q", s.Warnings)
	}
	if m := w.Metrics(); !strings.Contains(m, "\nholdfast_warnings 1\n") {
		t.Errorf("the metrics do not count the warning:\n%s", m)
	}
	if _, text := w.Command("status"); !strings.Contains(text, "warning: "+want) {
		t.Errorf("holdfast status does not warn:\n%s", text)
	}
	s := w.handsOver(t, "the volume, mounted as a directory", func() { v.publish(t, map[string]string{"app.conf": "2"}) })
	if !strings.Contains(fmt.Sprint(s.Warnings), want) {
		t.Errorf("after an update the status does not warn: %q", s.Warnings)
	}
}

// TestSymlinksOnTheWay: a path may go through symlinks, and each of them may be what changes.
func TestSymlinksOnTheWay(t *testing.T) {
	t.Parallel()
	v, dir := newVolume(t, map[string]string{"app.conf": "1"}), t.TempDir()
	other := newVolume(t, map[string]string{"app.conf": "other"})
	turn := func(link, target string) {
		t.Helper()
		if err := os.Symlink(target, link+"~"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+"~", link); err != nil {
			t.Fatal(err)
		}
	}
	current, conf := filepath.Join(dir, "current"), filepath.Join(dir, "conf")
	turn(current, v.dir)
	turn(conf, "current/app.conf")
	w := watch(t, harness.Options{}, conf)
	w.handsOver(t, "the volume at the end", func() { v.publish(t, map[string]string{"app.conf": "2"}) })
	w.handsOver(t, "a link in the middle", func() { turn(current, other.dir) })
	w.handsOver(t, "the new volume at the end", func() { other.publish(t, map[string]string{"app.conf": "more"}) })
	w.silent(t, "a link to the same content", func() {
		turn(filepath.Join(dir, "again"), other.dir)
		turn(current, "again")
	})
}

// token is shaped as a service-account token that the kubelet renews.
func token(serial int) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"RS256","kid":"k"}`) + "." +
		part(fmt.Sprintf(`{"aud":["api"],"exp":%d,"kubernetes.io":{"namespace":"default"}}`, 1700000000+serial)) + "." + part("signature")
}

// TestTokenRotates: a service-account token beside the configuration in a projected volume is renewed every hour, and
// asks for nothing by that, unless it is named.
func TestTokenRotates(t *testing.T) {
	t.Parallel()
	projected := func(serial int, config string) map[string]string {
		return map[string]string{"token": token(serial), "ca.crt": "CERT", "app.conf": config}
	}
	v := newVolume(t, projected(1, "a"))
	w := watch(t, harness.Options{}, v.dir)
	for serial := range 3 {
		w.silent(t, "a new token", func() { v.publish(t, projected(serial+2, "a")) })
	}
	w.handsOver(t, "the configuration beside it", func() { v.publish(t, projected(6, "b")) })
	named := watch(t, harness.Options{}, v.dir, v.path("token"))
	named.handsOver(t, "a new token that is watched by its name", func() { v.publish(t, projected(7, "b")) })
}

// TestJitter: with a random delay the handoff waits, which the log says; whoever cannot wait asks for it, and the
// generation knows what it has started from.
func TestJitter(t *testing.T) {
	t.Parallel()
	v := newVolume(t, map[string]string{"a": "1"})
	w := watch(t, harness.Options{Flags: []string{"--watch-jitter", "100000h"}}, v.dir)
	v.publish(t, map[string]string{"a": "2"})
	w.WaitLog("watched content changed: waiting, so that a fleet does not move at once.*delay=[0-9]+h", within)
	s := w.Status()
	if s.Live != 1 || s.Handoff != nil || s.ConfigHash == s.ConfigLatest {
		t.Errorf("while it waits: generation %d, handoff %v, configuration %s, on disk %s", s.Live, s.Handoff, s.ConfigHash, s.ConfigLatest)
	}
	if m := w.Metrics(); !strings.Contains(m, "\nholdfast_config_current 0\n") || !strings.Contains(m, "\nholdfast_config_rejected 0\n") {
		t.Errorf("while it waits the metrics say:\n%s", m)
	}
	w.Signal(syscall.SIGHUP)
	if s := w.WaitLive(2, within); s.ConfigHash != s.ConfigLatest || s.Last.Trigger != "signal" {
		t.Errorf("after a signal: configuration %s, on disk %s, by %s", s.ConfigHash, s.ConfigLatest, s.Last.Trigger)
	}
}

// TestConfigReadAtTheStart: a generation that is asked for before the watcher has looked is said to run from what it has
// read, not from what the watcher knew.
func TestConfigReadAtTheStart(t *testing.T) {
	t.Parallel()
	v := newVolume(t, map[string]string{"a": "1"})
	w := watch(t, harness.Options{Flags: []string{"--watch-debounce", "1h"}}, v.dir)
	first := w.Status().ConfigHash
	v.publish(t, map[string]string{"a": "2"})
	w.Signal(syscall.SIGHUP)
	s := w.WaitLive(2, within)
	if s.ConfigHash == first || s.ConfigHash != s.ConfigLatest {
		t.Errorf("generation 2 runs from %s, generation 1 from %s, on disk is %s", s.ConfigHash, first, s.ConfigLatest)
	}
}

// TestInotifyExhausted: the kernel's inotify instances are shared by all pods of a user on the node, and may be taken.
func TestInotifyExhausted(t *testing.T) {
	wrap := []string{"unshare", "--user", "--map-root-user", "sh", "-c", `echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"`, "sh"}
	if out, err := exec.Command(wrap[0], append(wrap[1:], "true")...).CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no user namespace can be made here: %v: %s", err, out)
		}
		t.Skipf("no user namespace can be made here: %v: %s", err, out)
	}
	t.Parallel()
	v := newVolume(t, map[string]string{"a": "1"})
	w := watch(t, harness.Options{Wrap: wrap}, v.dir)
	const want = "inotify has no instances left: polling every 2s"
	w.WaitLog("watch: "+want, within)
	w.WaitStatus("the status says so", within, func(s *status.Snapshot) bool { return strings.Contains(fmt.Sprint(s.Warnings), want) })
	for i := range 2 {
		w.handsOver(t, "a change that only the poll can see", func() { v.publish(t, map[string]string{"a": fmt.Sprint(i + 2)}) })
	}
	if n := w.CountLog(want); n != 1 {
		t.Errorf("it was logged %d times", n)
	}
}

// TestEnvDirOnAConfigMap: with --env-dir and --watch on the same mount, each generation has the keys of its time as its
// environment.
func TestEnvDirOnAConfigMap(t *testing.T) {
	t.Parallel()
	v := newVolume(t, map[string]string{"COLOUR": "red", "SHAPE": "round\n"})
	w := watch(t, harness.Options{Flags: []string{"--env-dir", v.dir}}, v.dir)
	expect := func(s *status.Snapshot, want ...string) {
		t.Helper()
		for _, g := range s.Generations {
			if g.Number != s.Live {
				continue
			}
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", g.PID))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, kv := range strings.Split(string(b), "\x00") {
				if name, _, _ := strings.Cut(kv, "="); name == "COLOUR" || name == "SHAPE" || name == "SIZE" {
					got = append(got, kv)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("generation %d has %q, want %q", g.Number, got, want)
			}
		}
	}
	expect(w.Status(), "COLOUR=red", "SHAPE=round")
	expect(w.handsOver(t, "other keys", func() { v.publish(t, map[string]string{"COLOUR": "green", "SIZE": "7"}) }), "COLOUR=green", "SIZE=7")
}

// TestAnnotation: the pod's annotations, mounted through the downward API, are rewritten as soon as somebody annotates the
// pod: a trigger without exec and shell.
func TestAnnotation(t *testing.T) {
	t.Parallel()
	annotations := func(more string) map[string]string {
		return map[string]string{"annotations": "kubernetes.io/config.seen=\"2026-11-22T19:21:51Z\"\n" + more}
	}
	pod, config := newVolume(t, annotations("")), newVolume(t, map[string]string{"a": "1"})
	w := watch(t, harness.Options{}, pod.path("annotations"), config.dir)
	w.handsOver(t, "an annotation", func() { pod.publish(t, annotations("reload=\"1\"\n")) })
	w.handsOver(t, "another", func() { pod.publish(t, annotations("reload=\"2\"\n")) })
	w.silent(t, "the same again", func() { pod.publish(t, annotations("reload=\"2\"\n")) })
}

// TestWatchTrigger: as a trigger, the annotations ask for a handoff and leave the hash of the configuration alone, which
// else would differ between pods that were annotated at different times. The kubelet brings an annotation and a changed
// ConfigMap together: that is one handoff.
func TestWatchTrigger(t *testing.T) {
	t.Parallel()
	pod, config := newVolume(t, map[string]string{"reload": ""}), newVolume(t, map[string]string{"a": "1"})
	plain := watch(t, harness.Options{}, config.dir)
	w := watch(t, harness.Options{Flags: []string{"--watch-trigger", pod.path("reload"), "--watch-debounce", "2s"}}, config.dir)
	hash := plain.Status().ConfigHash
	if got := w.Status().ConfigHash; got != hash {
		t.Errorf("with a trigger the configuration is %s, without %s", got, hash)
	}
	pod.publish(t, map[string]string{"reload": "1"})
	if s := w.WaitLive(2, within); s.ConfigHash != hash || s.ConfigLatest != hash || s.Last.Trigger != "watch" || harness.Handoffs(s, "") != 1 {
		t.Errorf("after an annotation: %s, on disk %s, want %s; %d handoffs, by %s", s.ConfigHash, s.ConfigLatest, hash, harness.Handoffs(s, ""), s.Last.Trigger)
	}
	w.silent(t, "the same annotation", func() { pod.publish(t, map[string]string{"reload": "1"}) })
	w.handsOver(t, "an annotation and the ConfigMap", func() {
		pod.publish(t, map[string]string{"reload": "2"})
		config.publish(t, map[string]string{"a": "2"})
	})
	plain.WaitLive(2, within) // of the same change
	plain.handsOver(t, "the ConfigMap alone, again", func() { config.publish(t, map[string]string{"a": "3"}) })
	w.WaitLive(4, within)
	if a, b := plain.Status().ConfigHash, w.Status().ConfigHash; a != b {
		t.Errorf("with the same configuration: %s and %s", a, b)
	}
}

// TestRejectedConfig: a configuration that is rejected in place stays dangerous, since the container's next start will
// fail with it. Status and metrics say so until the repaired one is live, whether the check has found it or the server.
func TestRejectedConfig(t *testing.T) {
	for name, c := range map[string]struct{ check, broken string }{
		"by the check":  {`sh -c "! grep -q broken %s"`, "*:ok broken"},
		"by the server": {"true", "*:exit=9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVolume(t, map[string]string{"orders": "*:ok"})
			check := strings.Replace(c.check, "%s", v.path("orders"), 1)
			w := watch(t, harness.Options{Flags: []string{"--check", check}, Env: []string{"NAUGHTY_FILE=" + v.path("orders")}}, v.dir)
			first := w.Status()
			v.publish(t, map[string]string{"orders": c.broken})
			s := w.WaitHandoffs(1, within)
			if s.Live != 1 || s.ConfigHash != first.ConfigHash || s.ConfigRejected == "" || s.ConfigRejected != s.ConfigLatest || s.Last.ConfigHash != s.ConfigLatest {
				t.Errorf("after a broken one: live generation %d from %s, on disk %s, rejected %s, tried %s",
					s.Live, s.ConfigHash, s.ConfigLatest, s.ConfigRejected, s.Last.ConfigHash)
			}
			metrics := w.Metrics()
			for _, want := range []string{"holdfast_config_rejected 1", "holdfast_config_current 0", "holdfast_last_handoff_successful 0"} {
				if !strings.Contains(metrics, "\n"+want+"\n") {
					t.Errorf("after a broken one the metrics do not say %s", want)
				}
			}
			if _, text := w.Command("status"); !strings.Contains(text, "REJECTED: the next start of the container will fail") {
				t.Errorf("holdfast status does not warn:\n%s", text)
			}
			v.publish(t, map[string]string{"orders": "*:ok mended"})
			live := 2 // the check has kept generation 2 from being started
			if c.check == "true" {
				live = 3
			}
			if s := w.WaitLive(live, within); s.ConfigRejected != "" || s.ConfigHash != s.ConfigLatest {
				t.Errorf("after the repair: live from %s, on disk %s, rejected %s", s.ConfigHash, s.ConfigLatest, s.ConfigRejected)
			}
			if m := w.Metrics(); !strings.Contains(m, "\nholdfast_config_rejected 0\n") || !strings.Contains(m, "\nholdfast_config_current 1\n") {
				t.Errorf("after the repair the metrics say:\n%s", m)
			}
		})
	}
}
