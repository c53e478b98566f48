package kubernetes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// namespace is one of the test's own, gone with it.
type namespace struct {
	t    *testing.T
	name string
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{t: t}
	text := `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "holdfast-", "labels": {
		"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}}`
	n.name = n.must(text, "create", "-f", "-", "-o", "jsonpath={.metadata.name}")
	t.Cleanup(func() {
		if t.Failed() {
			n.tell()
		}
		_, _ = n.kubectl("", "delete", "namespace", n.name, "--wait=false")
	})
	until(t, "the namespace has a service account", func() bool {
		_, err := n.kubectl("", "get", "serviceaccount/default", "configmap/kube-root-ca.crt")
		return err == nil
	})
	return n
}

// kubectl runs it in the namespace.
func (n *namespace) kubectl(stdin string, args ...string) (string, error) {
	if n.name != "" {
		args = append([]string{"-n", n.name}, args...)
	}
	cmd := exec.Command("kubectl", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errors.String()))
	}
	return out.String(), nil
}

func (n *namespace) must(stdin string, args ...string) string {
	n.t.Helper()
	out, err := n.kubectl(stdin, args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// tell logs what one wants to see after a failure.
func (n *namespace) tell() {
	for _, args := range [][]string{
		{"get", "pods,endpointslices", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"logs", "-l", "holdfast/entrypoint=true", "--tail=60", "--prefix", "--all-containers"},
	} {
		out, err := n.kubectl("", args...)
		n.t.Logf("kubectl %v (%v):\n%s", args, err, out)
	}
}

// app is one of deploy/'s overlays, deployed.
type app struct {
	*namespace
	overlay string
	binary  string // holdfast's, in its container
}

// settings change an overlay before it is deployed.
type settings struct {
	components []string          // of deploy/components
	replicas   int               // 2 by default
	env        map[string]string // of the server's container
	args       []string          // of the server's container; nil = the overlay's
	readiness  string            // the readinessProbe in place of the overlay's
	config     map[string]string // the ConfigMap's data; nil = the overlay's
	notReady   bool              // do not wait until it is
}

// deploy applies an overlay with the test's images, and waits until all its pods are ready.
func deploy(t *testing.T, overlay string, s settings) *app {
	t.Helper()
	a := &app{namespace: newNamespace(t), overlay: overlay, binary: "holdfast"}
	if overlay == "gunicorn" {
		a.binary = "/opt/holdfast/holdfast"
	}
	a.apply(s)
	return a
}

func (a *app) deployment() string { return a.overlay + "-server" }

// apply is kubectl apply of the overlay with these settings.
func (a *app) apply(s settings) {
	a.t.Helper()
	if s.replicas == 0 {
		s.replicas = 2
	}
	dir := a.t.TempDir()
	text, err := json.Marshal(a.kustomization(dir, s))
	if err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), text, 0o644); err != nil { // JSON is YAML
		a.t.Fatal(err)
	}
	manifests := a.must("", "kustomize", dir)
	a.must(manifests, "apply", "-f", "-")
	if s.config != nil {
		a.configure(s.config)
	}
	if !s.notReady {
		a.must("", "rollout", "status", "deployment/"+a.deployment(), "--timeout="+within.String())
	}
}

type object = map[string]any

func (a *app) kustomization(dir string, s settings) object {
	a.t.Helper()
	here, err := filepath.Abs("../../deploy")
	if err != nil {
		a.t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		a.t.Fatal(err)
	}
	base, err := filepath.Rel(dir, here)
	if err != nil {
		a.t.Fatal(err)
	}
	names := map[string]string{"nginx": "docker.io/library/nginx", "node": "registry.example/node-app", "gunicorn": "registry.example/python-app"}
	components := []string{}
	for _, c := range s.components {
		components = append(components, filepath.Join(base, "components", c))
	}
	return object{
		"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": a.name,
		"resources": []string{filepath.Join(base, "overlays", a.overlay)}, "components": components,
		"images": []object{
			substitute("registry.example/holdfast", image), substitute(names[a.overlay], image+"-"+a.overlay),
		},
		"replicas": []object{{"name": a.deployment(), "count": s.replicas}},
		"patches":  []object{{"target": object{"kind": "Deployment"}, "patch": s.patch(a.t)}},
	}
}

func substitute(name, by string) object {
	i := strings.LastIndex(by, ":")
	return object{"name": name, "newName": by[:i], "newTag": by[i+1:]}
}

// patch is the strategic merge patch of the Deployment.
func (s settings) patch(t *testing.T) string {
	t.Helper()
	container := object{"name": "server"}
	env := []object{}
	for name, value := range s.env {
		env = append(env, object{"name": name, "value": value})
	}
	container["env"] = env
	if s.args != nil {
		container["args"] = s.args
	}
	if s.readiness != "" {
		var probe object
		if err := json.Unmarshal([]byte(s.readiness), &probe); err != nil {
			t.Fatal(err)
		}
		probe["$patch"] = "replace"
		container["readinessProbe"] = probe
	}
	text, err := json.Marshal(object{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": "any"},
		"spec": object{"template": object{"spec": object{"containers": []object{container}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// configure is kubectl apply of a changed ConfigMap.
func (a *app) configure(data map[string]string) {
	a.t.Helper()
	text, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": a.deployment() + "-config"}, "data": data,
	})
	if err != nil {
		a.t.Fatal(err)
	}
	a.must(string(text), "apply", "-f", "-")
}

// nginxConfig is the overlay's, with another version and other replacements in it.
func nginxConfig(t *testing.T, version int, replace ...string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/overlays/nginx/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	all := append([]string{"version=1", fmt.Sprintf("version=%d", version)}, replace...)
	for i := 0; i < len(all); i += 2 {
		if !strings.Contains(string(text), all[i]) {
			t.Fatalf("nginx.conf has no %q", all[i])
		}
	}
	return map[string]string{"nginx.conf": strings.NewReplacer(all...).Replace(string(text))}
}
