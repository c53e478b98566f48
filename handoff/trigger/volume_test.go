package trigger_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestEveryUpdateOfAVolumeIsReportedOnce(t *testing.T) {
	v := newVolume(t, map[string]string{"a": "0", "b": "same"})
	r := watching(t, v.dir)
	hashes := map[string]bool{r.w.Hash(): true}
	for i := range 20 {
		v.write(map[string]string{"a": fmt.Sprint(i + 1), "b": "same"})
		hashes[r.expect(v.path("a")).Hash] = true
	}
	r.quiet()
	if len(hashes) != 21 {
		t.Errorf("%d hashes of 21 contents", len(hashes))
	}
}

func TestEveryUpdateOfOneKeyIsReportedOnce(t *testing.T) {
	v := newVolume(t, map[string]string{"a": "0", "b": "0"})
	r := watching(t, v.path("a"))
	for i := range 20 {
		v.write(map[string]string{"a": fmt.Sprint(i + 1), "b": fmt.Sprint(i / 2)})
		r.expect(v.path("a"))
	}
	v.write(map[string]string{"a": "20", "b": "another key"})
	r.quiet()
}

func TestKeysComeAndGo(t *testing.T) {
	v := newVolume(t, map[string]string{"a": "1", "b": "1"})
	r := watching(t, v.dir)
	v.write(map[string]string{"a": "1"})
	r.quiet()
	v.write(map[string]string{"a": "1", "b": "1"})
	r.quiet()
	v.write(map[string]string{"b": "1"})
	r.quiet()
	v.write(map[string]string{"a": "2", "b": "1", "sub/c": "new"})
	r.expect(v.path("a"), v.path("sub/c"))
	v.write(nil) // an optional ConfigMap was deleted
	r.quiet()
	v.write(map[string]string{"a": "2", "b": "3", "sub/c": "new"})
	r.expect(v.path("b"))
}

func TestSameContentInAVolumeIsSilent(t *testing.T) {
	v := newVolume(t, map[string]string{"a": "1"})
	r := watching(t, v.dir, v.path("a"))
	v.write(map[string]string{"a": "1"}) // the kubelet does nothing
	must(t, os.RemoveAll(v.dir))         // a volume that is made anew, as after a kubelet's trouble
	mkdir(t, v.dir)
	v.write(map[string]string{"a": "1"})
	r.quiet()
	v.write(map[string]string{"a": "2"})
	r.expect(v.path("a"))
}

func TestTwoVolumesWithinTheDebounceAreOneReport(t *testing.T) {
	config, secret := newVolume(t, map[string]string{"c": "1"}), newVolume(t, map[string]string{"s": "1"})
	r := watching(t, config.dir, secret.dir)
	config.write(map[string]string{"c": "2"})
	r.noticed()
	secret.write(map[string]string{"s": "2"})
	r.expect(config.path("c"), secret.path("s"))
	r.quiet()
}

func TestVolumeBelowAPlainDirectory(t *testing.T) {
	v := newVolume(t, map[string]string{"a": "1"})
	etc := filepath.Dir(v.dir)
	r := watching(t, etc)
	for i := range 3 {
		v.write(map[string]string{"a": fmt.Sprint(i + 2)})
		r.expect(v.path("a"))
	}
	r.quiet()
}

func TestOneDirectoryOfAVolume(t *testing.T) {
	v := newVolume(t, map[string]string{"sub/a": "1", "b": "1"})
	r := watching(t, v.path("sub"))
	for i := range 3 {
		v.write(map[string]string{"sub/a": fmt.Sprint(i + 2), "b": fmt.Sprint(i)})
		r.expect(v.path("sub/a"))
	}
	v.write(map[string]string{"sub/a": "4", "b": "other"})
	r.quiet()
}

func TestTokenRotationIsSilent(t *testing.T) {
	projected := func(serial int, config string) map[string]string {
		return map[string]string{"token": token(serial), "ca.crt": "CERT", "config": config}
	}
	v := newVolume(t, projected(1, "a"))
	r := watching(t, v.dir)
	before := r.w.Hash()
	for i := range 5 {
		v.write(projected(i+2, "a"))
	}
	r.quiet()
	v.write(projected(7, "b"))
	r.expect(v.path("config"))
	v.write(projected(8, "a"))
	r.expect(v.path("config"))
	if after := r.w.Hash(); after == before {
		t.Errorf("the sentinel has changed, the hash has not")
	}

	named := watching(t, v.path("token"))
	v.write(projected(9, "a"))
	named.expect(v.path("token"))
}

// token is shaped as the API server's TokenRequest answers.
func token(serial int) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"RS256","kid":"k"}`) + "." +
		part(fmt.Sprintf(`{"aud":["api"],"exp":%d,"kubernetes.io":{"namespace":"default"}}`, 1700000000+serial)) + "." +
		part("signature")
}

// A reader that goes through the links key by key would see pairs that never existed.
func TestASnapshotIsConsistent(t *testing.T) {
	payload := func(i int) map[string]string {
		keys := map[string]string{}
		for k := range 30 {
			keys[fmt.Sprintf("sub%d/key", k)] = fmt.Sprint(i % 2)
		}
		return keys
	}
	v := newVolume(t, payload(0))
	r := newRig(t, options(v.dir))
	allowed := map[string]bool{r.w.Read(): true}
	v.write(payload(1))
	allowed[r.w.Read()] = true

	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for i := 0; err == nil; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
				err = v.update(payload(i))
			}
		}
		stopped <- err
	}()
	for range 500 {
		if got := r.w.Read(); !allowed[got] {
			t.Errorf("read %s, which is neither of %v", got, allowed)
			break
		}
	}
	close(stop)
	must(t, <-stopped)
}
