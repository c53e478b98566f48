package check

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// TestChartChoices: what is chosen is what comes out.
func TestChartChoices(t *testing.T) {
	c := loaded(t, chartDir)
	server := func(t *testing.T, changes string) (*apps.Deployment, core.Container, map[string]string) {
		d := charted(t, c, "node", changes)["Deployment"].(*apps.Deployment)
		restricted(t, d)
		env := map[string]string{}
		for _, e := range d.Spec.Template.Spec.Containers[0].Env {
			env[e.Name] = e.Value
		}
		return d, d.Spec.Template.Spec.Containers[0], env
	}
	t.Run("readiness", func(t *testing.T) {
		if _, c, _ := server(t, "probes: {readiness: {excludeHandoff: false}}"); c.ReadinessProbe.HTTPGet.Path != "/readyz" {
			t.Errorf("%v", c.ReadinessProbe.HTTPGet)
		}
	})
	t.Run("grace", func(t *testing.T) {
		for changes, want := range map[string]int64{
			"holdfast: {flags: {shutdown-delay: 1500ms, drain-timeout: 2m}}":                 127, // 1.5 s is 2 s
			"holdfast: {flags: {shutdown-delay: null, drain-timeout: null}}":                 35,  // holdfast's own defaults
			"terminationGracePeriodSeconds: 40":                                              40,
			"holdfast: {flags: {drain-timeout: 1h0m0.5s}}\nterminationGracePeriodSeconds: 0": 3616,
		} {
			if d, _, _ := server(t, changes); *d.Spec.Template.Spec.TerminationGracePeriodSeconds != want {
				t.Errorf("%s: %d, want %d", changes, *d.Spec.Template.Spec.TerminationGracePeriodSeconds, want)
			}
		}
	})
	t.Run("flags", func(t *testing.T) {
		_, c, env := server(t, `{holdfast: {flags: {takeover: off, follow: true, max-draining: 1000000, remap-exit: [143, "130:1"], watch-trigger: /a}, reloadByAnnotation: true}, probes: {port: 9000}, config: {mountPath: /etc/b}}`)
		for name, want := range map[string]string{"TAKEOVER": "off", "FOLLOW": "true", "MAX_DRAINING": "1000000", "REMAP_EXIT": "143\n130:1",
			"WATCH_TRIGGER": "/etc/holdfast/reload\n/a", "PROBE_ADDR": ":9000", "WATCH": "/etc/b"} {
			if env["HOLDFAST_"+name] != want {
				t.Errorf("%s=%q, want %q", name, env["HOLDFAST_"+name], want)
			}
		}
		if port := c.Ports[len(c.Ports)-1]; port.Name != "probes" || port.ContainerPort != 9000 {
			t.Errorf("%v", c.Ports)
		}
		var list []string
		for name, value := range env {
			if strings.HasPrefix(name, "HOLDFAST_") {
				list = append(list, name+"="+value)
			}
		}
		cmd := exec.Command(holdfast(), "--version")
		cmd.Env = list
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v: %s", list, err, out)
		}
	})
	t.Run("configuration", func(t *testing.T) {
		before, after := charted(t, c, "node", ""), charted(t, c, "node", "config: {data: {config.json: '{}', more: text}}")
		if reflect.DeepEqual(before["ConfigMap"], after["ConfigMap"]) {
			t.Error("the edit is not in the ConfigMap")
		}
		if !reflect.DeepEqual(before["Deployment"], after["Deployment"]) {
			t.Error("an edit of the configuration changes the Deployment, which is a rollout")
		}
	})
	t.Run("image", func(t *testing.T) {
		d := charted(t, c, "node", "{image: {digest: 'sha256:00ff'}, holdfast: {install: init-container, image: {repository: 'local:5000/holdfast', tag: v1}}, user: 1000660000}")["Deployment"].(*apps.Deployment)
		spec := d.Spec.Template.Spec
		if spec.Containers[0].Image != "registry.example/node-app@sha256:00ff" || spec.InitContainers[0].Image != "local:5000/holdfast:v1" || *spec.SecurityContext.RunAsUser != 1000660000 {
			t.Errorf("%s", text(t, spec))
		}
	})
	t.Run("without", func(t *testing.T) {
		all := charted(t, c, "node", "{service: {enabled: false}, podDisruptionBudget: {enabled: false}, networkPolicy: {enabled: false}, config: {data: null, existingConfigMap: mine}}")
		if kinds := slices.Sorted(maps.Keys(all)); !slices.Equal(kinds, []string{"Deployment"}) {
			t.Errorf("%v", kinds)
		}
		if !strings.Contains(string(text(t, all["Deployment"])), "name: mine") {
			t.Error("the ConfigMap that there is already is not mounted")
		}
	})
	t.Run("worker", func(t *testing.T) {
		all := charted(t, c, "node", "{ports: [], networkPolicy: {monitoringNamespace: ''}}")
		if all["Service"] != nil {
			t.Error("a Service without ports")
		}
		if policy := all["NetworkPolicy"].(*networking.NetworkPolicy); len(policy.Spec.Ingress) != 0 {
			t.Errorf("a rule with nothing in it lets everything in: %v", policy.Spec.Ingress)
		}
	})
	t.Run("notes", func(t *testing.T) {
		for example, holdfast := range map[string]string{"nginx": "holdfast", "gunicorn": "/opt/holdfast/holdfast"} {
			files, err := render(c, "web", values(t, example, "holdfast: {reloadByAnnotation: true}"), current)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range []string{
				"web-server runs behind holdfast. A handoff in one pod, with its outcome as the exit code:",
				"    kubectl -n shop exec POD -- " + holdfast + " reload --wait",
				"    for pod in $(kubectl -n shop get pods -l app.kubernetes.io/name=web -o name); do",
				"      kubectl -n shop exec $pod -- " + holdfast + " reload --wait || break",
				"    done",
				`    kubectl -n shop annotate pod POD holdfast/reload="$(date +%s)" --overwrite`,
				"An edit of the ConfigMap web-server-config reaches the pods within 90 seconds. No pod is replaced by it.",
				"    kubectl -n shop exec POD -- " + holdfast + " status",
			} {
				if !slices.Contains(strings.Split(files["NOTES.txt"], "\n"), line) {
					t.Errorf("the notes lack %q:\n%s", line, files["NOTES.txt"])
				}
			}
		}
	})
	t.Run("labels", func(t *testing.T) {
		all := charted(t, c, "nginx", monitored)
		all["pod"] = &all["Deployment"].(*apps.Deployment).Spec.Template
		for kind, object := range all {
			labels := object.(meta.Object).GetLabels()
			for name, want := range map[string]string{"name": "nginx", "instance": "nginx", "managed-by": "Helm"} {
				if got := labels["app.kubernetes.io/"+name]; got != want {
					t.Errorf("%s: %s=%q, want %q", kind, name, got, want)
				}
			}
			want := c.Name() + "-" + c.Metadata.Version
			if kind == "pod" {
				want = "" // another version of the chart is no reason for a rollout
			}
			if got := labels["helm.sh/chart"]; got != want {
				t.Errorf("%s: helm.sh/chart=%q, want %q", kind, got, want)
			}
		}
	})
	t.Run("monitoring", func(t *testing.T) {
		all := charted(t, c, "nginx", strings.ReplaceAll(monitored, "true", "true, labels: {release: prometheus}"))
		for _, kind := range []string{"PodMonitor", "PrometheusRule", "dashboard"} {
			if all[kind].(meta.Object).GetLabels()["release"] != "prometheus" {
				t.Errorf("%s: the operator would not select it", kind)
			}
		}
	})
	t.Run("pod", func(t *testing.T) {
		const changes = `{name: web, image: {pullPolicy: Always}, imagePullSecrets: [{name: a}], serviceAccountName: b, priorityClassName: c, nodeSelector: {d: e},
tolerations: [{key: f}], affinity: {nodeAffinity: {}}, topologySpreadConstraints: [{maxSkew: 1}], podLabels: {g: h}, podAnnotations: {i: j}, tmpSize: 1Gi,
extraVolumes: [{name: k, emptyDir: {}}], extraVolumeMounts: [{name: k, mountPath: /l}], readOnlyRootFilesystem: false}`
		all := string(text(t, charted(t, c, "node", changes)["Deployment"]))
		for _, part := range []string{"name: web-server\n", "imagePullPolicy: Always", "imagePullSecrets:\n      - name: a\n", "serviceAccountName: b\n",
			"priorityClassName: c\n", "nodeSelector:\n        d: e\n", "tolerations:\n      - key: f\n", "affinity:\n        nodeAffinity: {}\n",
			"topologySpreadConstraints:\n      - maxSkew: 1\n", "        g: h\n", "annotations:\n        i: j\n", "sizeLimit: 1Gi\n", "emptyDir: {}\n        name: k\n",
			"mountPath: /l\n          name: k\n", "readOnlyRootFilesystem: false\n"} {
			if !strings.Contains(all, part) {
				t.Errorf("%q is not in\n%s", part, all)
			}
		}
	})
	t.Run("ports", func(t *testing.T) {
		all := charted(t, c, "node", "{ports: [{name: dns, containerPort: 5353, servicePort: 53, protocol: UDP}, {name: own, containerPort: 81}], service: {type: LoadBalancer, annotations: {a: b}}}")
		s := all["Service"].(*core.Service)
		if len(s.Spec.Ports) != 1 || s.Spec.Ports[0].Protocol != "UDP" || s.Spec.Ports[0].Port != 53 || s.Spec.Type != "LoadBalancer" || s.Annotations["a"] != "b" {
			t.Errorf("%s", text(t, s))
		}
		if p := all["NetworkPolicy"].(*networking.NetworkPolicy).Spec.Ingress[0].Ports; len(p) != 2 || p[0].Protocol == nil || *p[0].Protocol != "UDP" {
			t.Errorf("%s", text(t, p))
		}
		if p := all["Deployment"].(*apps.Deployment).Spec.Template.Spec.Containers[0].Ports; len(p) != 3 || p[0].Protocol != "UDP" {
			t.Errorf("%s", text(t, p))
		}
	})
}

// TestChartRefuses: what cannot be right is refused, in a line that says which value and why.
func TestChartRefuses(t *testing.T) {
	c := loaded(t, chartDir)
	for changes, want := range map[string]string{
		"replica: 2":                                  "additional properties 'replica' not allowed",
		"replicas: two":                               "at '/replicas': got string, want integer",
		"holdfast: {flags: {watch-jiter: 2s}}":        "at '/holdfast/flags': additional properties 'watch-jiter' not allowed",
		"holdfast: {flags: {probe-addr: ''}}":         "at '/holdfast/flags': additional properties 'probe-addr' not allowed",
		"holdfast: {flags: {drain-timeout: 30}}":      "at '/holdfast/flags/drain-timeout': got number, want string",
		"holdfast: {flags: {drain-timeout: '30'}}":    "at '/holdfast/flags/drain-timeout': '30' does not match pattern",
		"holdfast: {flags: {restart: sometimes}}":     "at '/holdfast/flags/restart': value must be one of 'never', 'on-failure', 'always'",
		"holdfast: {install: sidecar}":                "at '/holdfast/install': value must be one of 'image', 'init-container', 'image-volume'",
		"config: {data: {APP_VERSION: 1}}":            "at '/config/data/APP_VERSION': got number, want string",
		"config: {mountPath: etc/app}":                "at '/config/mountPath': 'etc/app' does not match pattern",
		"image: {repository: 'nginx:1.28'}":           "at '/image/repository': 'nginx:1.28' does not match pattern",
		"user: 0":                                     "at '/user': minimum: got 0, want 1",
		"ports: [{name: http, containerPort: 0}]":     "at '/ports/0/containerPort': minimum: got 0, want 1",
		"command: []":                                 "command: say the server's command line",
		"image: {repository: ''}":                     "image.repository: say the server's image",
		"holdfast: {image: {repository: ''}}":         "holdfast.image.repository: holdfast.install=init-container needs holdfast's own image",
		"config: {existingConfigMap: mine}":           "config: data and existingConfigMap exclude each other",
		"{ports: [], holdfast: {flags: {ready: []}}}": "ports: a server without any is never ready unless holdfast.flags.ready says how it proves itself",
		"ports: [{name: web, containerPort: 9902}]":   "ports: web (9902) is the probe port's",
		"podAnnotations: {checksum/config: abc}":      "podAnnotations: checksum/config makes every edit of the configuration a rollout",
		"terminationGracePeriodSeconds: 30":           "terminationGracePeriodSeconds: 30 is less than shutdown-delay and drain-timeout together, 40 s",
		"name: 2nd":                                   `name: "2nd" cannot begin the name of a Service`,
		"holdfast: {install: image-volume}":           "holdfast.install: image-volume needs Kubernetes 1.35, this is v1.34.0",
	} {
		if _, err := render(c, "nginx", values(t, "nginx", changes), "1.34.0"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v\nwant %q", changes, err, want)
		}
	}
	if _, err := render(c, "nginx", values(t, "nginx", ""), "1.34.0"); err != nil {
		t.Errorf("without any change: %v", err)
	}
	// As from a repository whose archive leaves symbolic links out.
	c.Files = nil
	if _, err := render(c, "nginx", values(t, "nginx", monitored), current); err == nil || !strings.Contains(err.Error(), "files/rules.yaml: not in the chart") {
		t.Errorf("without its files: %v", err)
	}
}

// TestChartFlags: the flags that the chart takes are those that holdfast has, without those that the chart sets itself.
func TestChartFlags(t *testing.T) {
	help, err := exec.Command(holdfast(), "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range matches(`(?m)^ +(?:-\w, )?--([a-z-]+)`, string(help)) {
		if !slices.Contains([]string{"probe-addr", "version", "help"}, name) {
			want = append(want, name)
		}
	}
	var schema struct {
		Defs struct {
			Flags struct{ Properties map[string]any }
		} `json:"$defs"`
	}
	text, err := os.ReadFile(filepath.Join(chartDir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if have := slices.Sorted(maps.Keys(schema.Defs.Flags.Properties)); !slices.Equal(have, want) {
		t.Errorf("values.schema.json has the flags\n%v, holdfast\n%v", have, want)
	}
}

// TestChartLint is helm lint, and that it finds something where there is something.
func TestChartLint(t *testing.T) {
	cluster := common.KubeVersion{Version: current, Major: "1", Minor: "37"}
	for _, v := range []common.Values{nil, values(t, "nginx", monitored), values(t, "node", ""), values(t, "gunicorn", "")} {
		for _, m := range lint.RunAll(chartDir, v, "shop", lint.WithKubeVersion(&cluster)).Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%v", m)
			}
		}
	}
	packaged, err := chartutil.Save(loaded(t, chartDir), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir()
	if err := chartutil.ExpandFile(broken, packaged); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(broken, "holdfast-server/templates/service.yaml"), "kind: Service\n  metadata: {name: a}\n")
	found := lint.RunAll(filepath.Join(broken, "holdfast-server"), values(t, "nginx", ""), "shop")
	if !slices.ContainsFunc(found.Messages, func(m support.Message) bool {
		return m.Severity == support.ErrorSev && m.Path == "templates/service.yaml"
	}) {
		t.Errorf("nothing is said of a broken chart: %v", found.Messages)
	}
}

// TestChartValues: values.yaml, where a reader looks, has all that the schema allows. The other direction is the schema's.
func TestChartValues(t *testing.T) {
	type node struct {
		Ref        string `json:"$ref"`
		Properties map[string]node
		Defs       map[string]node `json:"$defs"`
	}
	text, err := os.ReadFile(filepath.Join(chartDir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema node
	if err := yaml.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	seen := 0
	var walk func(at string, n node, v any)
	walk = func(at string, n node, v any) {
		if def, ok := schema.Defs[strings.TrimPrefix(n.Ref, "#/$defs/")]; ok {
			n = def
		}
		for name, child := range n.Properties {
			in, _ := v.(map[string]any)
			value, ok := in[name]
			if !ok {
				t.Errorf("values.yaml lacks %s.%s", at, name)
			}
			seen++
			if name != "flags" {
				walk(at+"."+name, child, value)
			}
		}
	}
	delete(schema.Properties, "global") // Helm's own, for a chart within another
	walk("", schema, loaded(t, chartDir).Values)
	if seen < 50 {
		t.Errorf("only %d values were found", seen)
	}
}
