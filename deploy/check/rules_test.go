package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

const monitor = "../overlays/monitoring"

// rules returns the alerts of the PrometheusRule.
func rules(t *testing.T) []monitoring.Rule {
	t.Helper()
	var all []monitoring.Rule
	for _, g := range objects(t, "overlays/monitoring")["PrometheusRule"].(*monitoring.PrometheusRule).Spec.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// TestRulesAreTheSame compares the two forms of the alert rules: for a Prometheus with and without the operator.
func TestRulesAreTheSame(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(monitor, "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var plain monitoring.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict(text, &plain); err != nil {
		t.Fatal(err)
	}
	if rule := objects(t, "overlays/monitoring")["PrometheusRule"].(*monitoring.PrometheusRule); !reflect.DeepEqual(plain, rule.Spec) {
		t.Error("rules.yaml and prometheusrule.yaml differ: the second holds the first, indented, below spec")
	}
}

// TestRules has promtool check the rules, and try each with made-up series.
func TestRules(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "--lint-fatal", "rules.yaml"}, {"test", "rules", "rules_test.yaml"}} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = monitor
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	text, err := os.ReadFile(filepath.Join(monitor, "rules_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var tests struct {
		Tests []struct {
			Alerts []struct {
				Name     string `json:"alertname"`
				Expected []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	if err := yaml.Unmarshal(text, &tests); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, group := range tests.Tests {
		for _, a := range group.Alerts {
			if len(a.Expected) > 0 {
				fires[a.Name] = true
			} else {
				silent[a.Name] = true
			}
		}
	}
	for _, r := range rules(t) {
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: want a test in which it fires and one in which it does not", r.Alert)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
			t.Errorf("%s: want a summary, a description and a severity", r.Alert)
		}
	}
}
