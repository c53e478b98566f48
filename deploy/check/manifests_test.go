package check

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	disruption "k8s.io/api/policy/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// servers are the overlays that make a Deployment.
var servers = []string{"nginx", "node", "gunicorn"}

// kustomize builds a directory below deploy/.
func kustomize(t *testing.T, dir string) resmap.ResMap {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("..", dir))
	if err != nil {
		t.Fatalf("kustomize build deploy/%s: %v", dir, err)
	}
	return m
}

// decode reads one manifest into the type of its kind; an unknown or doubled field is an error.
func decode(text []byte, kind string) (any, error) {
	objects := map[string]any{
		"apps/v1 Deployment":                      &apps.Deployment{},
		"v1 Service":                              &core.Service{},
		"v1 ConfigMap":                            &core.ConfigMap{},
		"policy/v1 PodDisruptionBudget":           &disruption.PodDisruptionBudget{},
		"networking.k8s.io/v1 NetworkPolicy":      &networking.NetworkPolicy{},
		"monitoring.coreos.com/v1 PodMonitor":     &monitoring.PodMonitor{},
		"monitoring.coreos.com/v1 PrometheusRule": &monitoring.PrometheusRule{},
	}
	object, ok := objects[kind]
	if !ok {
		return nil, fmt.Errorf("%s: no type is known here", kind)
	}
	return object, yaml.UnmarshalStrict(text, object)
}

// objects builds a directory and returns what is in it by kind.
func objects(t *testing.T, dir string) map[string]any {
	t.Helper()
	found := map[string]any{}
	for _, r := range kustomize(t, dir).Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, err := decode(text, r.GetApiVersion()+" "+r.GetKind())
		if err != nil {
			t.Errorf("%s: %s %s: %v\n%s", dir, r.GetKind(), r.GetName(), err, text)
			continue
		}
		if found[r.GetKind()] != nil {
			t.Errorf("%s: two of kind %s", dir, r.GetKind())
		}
		found[r.GetKind()] = object
	}
	return found
}

// TestStrict shows that decode refuses what the API server would drop without a word.
func TestStrict(t *testing.T) {
	for _, text := range []string{"spec: {replica: 2}", "spec: {replicas: two}", "spec: {template: {spec: {containers: [{name: a, livenesProbe: {}}]}}}"} {
		if _, err := decode([]byte(text), "apps/v1 Deployment"); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestOverlays(t *testing.T) {
	for _, name := range servers {
		t.Run(name, func(t *testing.T) {
			all := objects(t, "overlays/"+name)
			for _, kind := range []string{"Deployment", "Service", "ConfigMap", "PodDisruptionBudget", "NetworkPolicy"} {
				if all[kind] == nil {
					t.Fatalf("no %s", kind)
				}
			}
			d := all["Deployment"].(*apps.Deployment)
			restricted(t, d)
			selected(t, d, map[string]map[string]string{
				"Deployment":          d.Spec.Selector.MatchLabels,
				"Service":             all["Service"].(*core.Service).Spec.Selector,
				"PodDisruptionBudget": all["PodDisruptionBudget"].(*disruption.PodDisruptionBudget).Spec.Selector.MatchLabels,
				"NetworkPolicy":       all["NetworkPolicy"].(*networking.NetworkPolicy).Spec.PodSelector.MatchLabels,
			}, name)
			configured(t, d, all["ConfigMap"].(*core.ConfigMap), name+"-server-config")
			probed(t, d)
		})
	}
	t.Run("monitoring", func(t *testing.T) {
		all := objects(t, "overlays/monitoring")
		monitor := all["PodMonitor"].(*monitoring.PodMonitor)
		for _, name := range servers {
			pod := objects(t, "overlays/"+name)["Deployment"].(*apps.Deployment).Spec.Template
			for key, value := range monitor.Spec.Selector.MatchLabels {
				if pod.Labels[key] != value {
					t.Errorf("the PodMonitor does not select the pods of %s: %s=%q", name, key, pod.Labels[key])
				}
			}
			if pod.Labels[monitor.Spec.JobLabel] != name {
				t.Errorf("the job of %s would be %q", name, pod.Labels[monitor.Spec.JobLabel])
			}
		}
		if all["ConfigMap"].(*core.ConfigMap).Labels["grafana_dashboard"] != "1" {
			t.Error("Grafana's sidecar does not find the dashboard")
		}
	})
}

// TestComponents builds the nginx overlay with each other component, as deploy/README.md says one can.
func TestComponents(t *testing.T) {
	for _, component := range []string{"image-volume", "reload-by-annotation", "roll"} {
		t.Run(component, func(t *testing.T) {
			restricted(t, composed(t, component)["Deployment"].(*apps.Deployment))
		})
	}
}

// composed builds the nginx overlay with one more component.
func composed(t *testing.T, component string) map[string]any {
	t.Helper()
	dir, err := os.MkdirTemp("..", ".check-") // kustomize takes no absolute paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	text := fmt.Sprintf("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../overlays/nginx]\ncomponents: [../components/%s]\n", component)
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return objects(t, filepath.Base(dir))
}

// restricted runs the checks of the API server's admission, and some that it does not have.
func restricted(t *testing.T, d *apps.Deployment) {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	pod := d.Spec.Template
	for _, r := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
		if !r.Allowed {
			t.Errorf("not restricted: %s: %s", r.ForbiddenReason, r.ForbiddenDetail)
		}
	}
	if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
		t.Error("the pod gets a token for the API that it does not need")
	}
	if user := pod.Spec.SecurityContext.RunAsUser; user == nil || *user != 65532 {
		t.Errorf("runs as %v, want 65532", user)
	}
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		if root := c.SecurityContext.ReadOnlyRootFilesystem; root == nil || !*root {
			t.Errorf("%s: its root can be written to", c.Name)
		}
		if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() {
			t.Errorf("%s: no request or limit of memory", c.Name)
		}
	}
}

// TestRestricted shows that restricted's checks can fail.
func TestRestricted(t *testing.T) {
	d := objects(t, "overlays/nginx")["Deployment"].(*apps.Deployment)
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	d.Spec.Template.Spec.Containers[0].SecurityContext.Capabilities = nil
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, r := range evaluator.EvaluatePod(level, &d.Spec.Template.ObjectMeta, &d.Spec.Template.Spec) {
		if !r.Allowed {
			return
		}
	}
	t.Error("a container with capabilities passed")
}

func selected(t *testing.T, d *apps.Deployment, selectors map[string]map[string]string, name string) {
	t.Helper()
	for kind, selector := range selectors {
		if selector["app.kubernetes.io/name"] != name {
			t.Errorf("%s selects %v, which may be another application's", kind, selector)
		}
		for key, value := range selector {
			if d.Spec.Template.Labels[key] != value {
				t.Errorf("%s selects %s=%s, the pods have %q", kind, key, value, d.Spec.Template.Labels[key])
			}
		}
	}
}

// configured holds what makes an edit of the ConfigMap reach the pods that run, and not replace them.
func configured(t *testing.T, d *apps.Deployment, c *core.ConfigMap, name string) {
	t.Helper()
	if c.Name != name {
		t.Errorf("the ConfigMap is named %q, want %q: with a hash in its name each edit is a rollout", c.Name, name)
	}
	if len(c.Data) == 0 {
		t.Error("the ConfigMap is empty")
	}
	if c.Immutable != nil {
		t.Error("the kubelet does not watch an immutable ConfigMap")
	}
	for key := range d.Spec.Template.Annotations {
		if strings.Contains(key, "checksum") || strings.Contains(key, "hash") {
			t.Errorf("annotation %s: each edit is a rollout", key)
		}
	}
	mounted := ""
	for _, v := range d.Spec.Template.Spec.Volumes {
		if v.ConfigMap != nil && v.ConfigMap.Name == name {
			mounted = v.Name
		}
	}
	for _, m := range d.Spec.Template.Spec.Containers[0].VolumeMounts {
		if m.Name == mounted && (m.SubPath != "" || m.MountPath != "/etc/app") {
			t.Errorf("mounted as %+v", m)
		}
	}
	if mounted == "" {
		t.Errorf("nothing mounts %s", name)
	}
}

func probed(t *testing.T, d *apps.Deployment) {
	t.Helper()
	c := d.Spec.Template.Spec.Containers[0]
	for _, p := range []*core.Probe{c.ReadinessProbe, c.LivenessProbe} {
		if p == nil || p.HTTPGet == nil || p.HTTPGet.Port.String() != "probes" {
			t.Errorf("want probes by httpGet on the port probes, not %+v", p)
		}
	}
}
