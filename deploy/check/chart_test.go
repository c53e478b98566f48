package check

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const (
	chartDir = "../helm/holdfast-server"
	current  = "v1.37.0" // the cluster's version; a test binary's Helm has an old one
)

// values reads an example's values, with changes on top in the form of values.yaml.
func values(t *testing.T, example, changes string) common.Values {
	t.Helper()
	v, err := common.ReadValuesFile(filepath.Join("..", "helm", example+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	over, err := common.ReadValues([]byte(changes))
	if err != nil {
		t.Fatal(err)
	}
	return loader.MergeMaps(v, over)
}

func loaded(t *testing.T, from string) *chart.Chart {
	t.Helper()
	c, err := loader.Load(from)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render is helm template for a cluster of some version: every file that the chart makes of these values, by its name in the chart.
func render(c *chart.Chart, release string, v common.Values, version string) (map[string]string, error) {
	cluster, err := common.ParseKubeVersion(version)
	if err != nil {
		return nil, err
	}
	capabilities := common.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *cluster
	all, err := util.ToRenderValues(c, v, common.ReleaseOptions{Name: release, Namespace: "shop", Revision: 1, IsInstall: true}, capabilities)
	if err != nil {
		return nil, err
	}
	files, err := new(engine.Engine).RenderWithContext(context.Background(), c, all)
	if err != nil {
		return nil, err
	}
	byName := map[string]string{}
	for name, text := range files {
		byName[path.Base(name)] = text
	}
	return byName, nil
}

// charted is what objects is for kustomize: the release is named as the example is.
func charted(t *testing.T, c *chart.Chart, example, changes string) map[string]any {
	t.Helper()
	files, err := render(c, example, values(t, example, changes), current)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]any{}
	for name, text := range files {
		if path.Ext(name) != ".yaml" {
			continue
		}
		for documents := yamlutil.NewYAMLReader(bufio.NewReader(strings.NewReader(text))); ; {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			var head struct {
				APIVersion, Kind string
				Metadata         struct{ Name string }
			}
			if err := errors.Join(err, yaml.Unmarshal(document, &head)); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
			if head.Kind == "" {
				continue
			}
			object, err := decode(document, head.APIVersion+" "+head.Kind)
			if err != nil {
				t.Errorf("%s: %s: %v\n%s", example, name, err, document)
				continue
			}
			key := head.Kind
			if head.Metadata.Name == "holdfast-dashboard" {
				key = "dashboard"
			}
			if found[key] != nil {
				t.Errorf("%s: two of kind %s", name, key)
			}
			found[key] = object
		}
	}
	return found
}

// normal removes from a decoded object what the two may differ in: who manages it, and the order of what has no order.
func normal(object any) any {
	labels := object.(meta.Object).GetLabels()
	maps.DeleteFunc(labels, own)
	if d, ok := object.(*apps.Deployment); ok {
		pod := &d.Spec.Template
		maps.DeleteFunc(pod.Labels, own)
		slices.SortFunc(pod.Spec.Volumes, func(a, b core.Volume) int { return cmp.Compare(a.Name, b.Name) })
		for i := range pod.Spec.Containers {
			c := &pod.Spec.Containers[i]
			slices.SortFunc(c.Env, func(a, b core.EnvVar) int { return cmp.Compare(a.Name, b.Name) })
			slices.SortFunc(c.VolumeMounts, func(a, b core.VolumeMount) int { return cmp.Compare(a.MountPath, b.MountPath) })
		}
	}
	return object
}

func own(label, _ string) bool {
	return slices.Contains([]string{"app.kubernetes.io/managed-by", "app.kubernetes.io/instance", "helm.sh/chart"}, label)
}

// same compares what the chart gives with what kustomize gives, kind by kind.
func same(t *testing.T, fromChart, fromOverlay map[string]any) {
	t.Helper()
	for _, kind := range slices.Sorted(maps.Keys(fromOverlay)) {
		if fromChart[kind] == nil {
			t.Errorf("the chart makes no %s", kind)
			continue
		}
		a, b := normal(fromChart[kind]), normal(fromOverlay[kind])
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s differs; the chart's, then the overlay's:\n%s\n%s", kind, text(t, a), text(t, b))
		}
	}
	for kind := range fromChart {
		if fromOverlay[kind] == nil {
			t.Errorf("the chart makes a %s, the overlay none", kind)
		}
	}
}

func text(t *testing.T, object any) []byte {
	t.Helper()
	b, err := yaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestChart: each example's values give what its overlay gives, which the other tests look at.
func TestChart(t *testing.T) {
	c := loaded(t, chartDir)
	for _, name := range servers {
		t.Run(name, func(t *testing.T) {
			all := charted(t, c, name, "")
			d := all["Deployment"].(*apps.Deployment)
			restricted(t, d)
			configured(t, d, all["ConfigMap"].(*core.ConfigMap), name+"-server-config")
			graceful(t, d, d.Spec.Template.Spec.Containers[0])
			same(t, all, objects(t, "overlays/"+name))
		})
	}
	t.Run("reload-by-annotation", func(t *testing.T) {
		same(t, charted(t, c, "nginx", "holdfast: {reloadByAnnotation: true}"), composed(t, "reload-by-annotation"))
	})
	t.Run("roll", func(t *testing.T) {
		same(t, charted(t, c, "nginx", `holdfast: {reloadByAnnotation: true, flags: {watch: "", watch-jitter: 0s}}`), composed(t, "roll"))
	})
}

// TestSameCanFail shows that a difference in either direction is one for normal, too.
func TestSameCanFail(t *testing.T) {
	c := loaded(t, chartDir)
	for _, changes := range []string{
		"replicas: 3", "command: [nginx]", "podLabels: {a: b}", "holdfast: {install: image}", "holdfast: {flags: {soak: 1s}}",
		"probes: {readiness: {excludeHandoff: false}}", "terminationGracePeriodSeconds: 46", "env: [{name: A, value: b}]",
	} {
		a, b := charted(t, c, "nginx", changes)["Deployment"], objects(t, "overlays/nginx")["Deployment"]
		if reflect.DeepEqual(normal(a), normal(b)) {
			t.Errorf("%s makes no difference", changes)
		}
	}
}

const monitored = "monitoring: {podMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboard: {enabled: true}}"

// TestChartMonitoring: the alerts and the dashboard are the overlay's, also in a chart that was packaged; the PodMonitor, of
// which each release has one, scrapes this release's pods as the overlay's scrapes all.
func TestChartMonitoring(t *testing.T) {
	packaged, err := chartutil.Save(loaded(t, chartDir), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	overlay := objects(t, "overlays/monitoring")
	for _, from := range []string{chartDir, packaged} {
		all := charted(t, loaded(t, from), "nginx", monitored)
		same(t, map[string]any{"PrometheusRule": all["PrometheusRule"], "ConfigMap": all["dashboard"]},
			map[string]any{"PrometheusRule": unlabelled(overlay["PrometheusRule"]), "ConfigMap": unlabelled(overlay["ConfigMap"])})
		mine, theirs := all["PodMonitor"].(*monitoring.PodMonitor).Spec, overlay["PodMonitor"].(*monitoring.PodMonitor).Spec
		if want := all["Deployment"].(*apps.Deployment).Spec.Selector.MatchLabels; !reflect.DeepEqual(mine.Selector.MatchLabels, want) {
			t.Errorf("the PodMonitor selects %v, the pods are %v", mine.Selector.MatchLabels, want)
		}
		mine.Selector, mine.NamespaceSelector = theirs.Selector, theirs.NamespaceSelector
		if !reflect.DeepEqual(mine, theirs) {
			t.Errorf("the PodMonitor differs:\n%s\n%s", text(t, mine), text(t, theirs))
		}
	}
}

// unlabelled gives an object of the overlay the one label that all of the chart's have.
func unlabelled(object any) any {
	o := object.(meta.Object)
	labels := maps.Clone(o.GetLabels())
	if labels == nil {
		labels = map[string]string{}
	}
	labels["app.kubernetes.io/name"] = "nginx"
	o.SetLabels(labels)
	return object
}
