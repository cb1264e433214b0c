package main

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/longwire/longwire/internal/config"
)

// passes runs a program in the repository's root.
func passes(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestRules has promtool check the configuration and the rules, and run their tests: each alert fires alone where it should.
func TestRules(t *testing.T) {
	t.Parallel()
	passes(t, "promtool", "check", "config", "deploy/prometheus/prometheus.yml")
	passes(t, "promtool", "test", "rules", "deploy/prometheus/tests/rules.yml")
}

// TestAlertmanager has amtool check Alertmanager's configuration, and route a critical and another alert.
func TestAlertmanager(t *testing.T) {
	const file = "deploy/alertmanager/alertmanager.yml"
	passes(t, "amtool", "check-config", file)
	for severity, receiver := range map[string]string{"critical": "on-call", "warning": "team"} {
		passes(t, "amtool", "config", "routes", "test", "--config.file="+file, "--verify.receivers="+receiver, "alertname=LongwireDown", "severity="+severity)
	}
}

// TestAlerts holds each alert to its test, its words and its section in docs/alerts.md, and the page to the alerts.
func TestAlerts(t *testing.T) {
	tests, page := read(t, "deploy/prometheus/tests/rules.yml"), read(t, "docs/alerts.md")
	alerts := make(map[string]bool)
	for _, r := range readRules(t) {
		if r.Alert == "" {
			continue
		}
		alerts[r.Alert] = true
		if !strings.Contains(tests, `alertname="`+r.Alert+`"`) {
			t.Errorf("%s has no test in deploy/prometheus/tests", r.Alert)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q, want critical or warning", r.Alert, s)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s says nothing", r.Alert)
		}
		if want := "docs/alerts.md#" + strings.ToLower(r.Alert); !strings.HasSuffix(r.Annotations["runbook_url"], want) {
			t.Errorf("%s: runbook_url %q, want it to end with %s", r.Alert, r.Annotations["runbook_url"], want)
		}
		if !strings.Contains(page, "\n### "+r.Alert+"\n\n") {
			t.Errorf("%s has no section in docs/alerts.md", r.Alert)
		}
	}
	if len(alerts) < 20 {
		t.Fatalf("%d alerts, want more", len(alerts))
	}
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(page, -1) {
		if !alerts[m[1]] {
			t.Errorf("docs/alerts.md has %s, which is no alert", m[1])
		}
	}
}

// TestCompose checks what of the compose file can be wrong without anybody noticing: files that are not there, jobs of
// Prometheus that are no services, a time to stop that is too short, images that change under one's feet.
func TestCompose(t *testing.T) {
	var c struct {
		Services map[string]struct {
			Image     string
			Build     struct{ Context, Dockerfile string }
			Volumes   []string
			DependsOn []string `yaml:"depends_on"`
			Stop      string   `yaml:"stop_grace_period"`
		}
		Volumes map[string]any
	}
	strict(t, "deploy/compose.yml", &c)
	if len(c.Services) < 5 {
		t.Fatalf("%d services, want more", len(c.Services))
	}
	for name, s := range c.Services {
		switch {
		case s.Build.Dockerfile != "":
			exists(t, "deploy", s.Build.Context, s.Build.Dockerfile)
		case !regexp.MustCompile(`:v?\d+\.\d+\.\d+$`).MatchString(s.Image):
			t.Errorf("%s: image %q has no version", name, s.Image)
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if _, ok := c.Volumes[from]; !ok {
				exists(t, "deploy", from)
			}
		}
		for _, d := range s.DependsOn {
			if _, ok := c.Services[d]; !ok {
				t.Errorf("%s depends on %s, which is no service", name, d)
			}
		}
	}
	stop, err := time.ParseDuration(c.Services["longwire"].Stop)
	if drain := drainOf(t, "deploy/longwire.yaml"); err != nil || stop < drain+10*time.Second {
		t.Errorf("stop_grace_period %v, drain %v (%v): want ten seconds more than that", stop, drain, err)
	}
	for _, m := range regexp.MustCompile(`targets: \[([a-z]+):`).FindAllStringSubmatch(read(t, "deploy/prometheus/prometheus.yml"), -1) {
		if _, ok := c.Services[m[1]]; !ok && m[1] != "localhost" {
			t.Errorf("prometheus.yml has the target %s, which is no service", m[1])
		}
	}
	for _, f := range []string{"deploy/grafana/provisioning/datasources/prometheus.yml", "deploy/grafana/provisioning/dashboards/longwire.yml"} {
		var content map[string]any
		strict(t, f, &content)
	}
}

// strict reads YAML, in which no key stands twice.
func strict(t *testing.T, name string, to any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, name)), to); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func exists(t *testing.T, parts ...string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(append([]string{root}, parts...)...)); err != nil {
		t.Error(err)
	}
}

// drainOf loads a configuration as longwire serve would.
func drainOf(t *testing.T, name string) time.Duration {
	t.Helper()
	l, err := config.Load(config.Input{File: filepath.Join(root, name), Read: os.ReadFile})
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(l.Serve.Drain)
}

// TestUnit has systemd check the unit, where there is systemd, and holds its time to stop against the drain.
func TestUnit(t *testing.T) {
	const name = "deploy/systemd/longwire.service"
	text := read(t, name)
	m := regexp.MustCompile(`(?m)^TimeoutStopSec=(\S+)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal("no TimeoutStopSec")
	}
	stop, err := time.ParseDuration(m[1])
	if drain := drainOf(t, "deploy/longwire.yaml"); err != nil || stop < drain+10*time.Second {
		t.Errorf("TimeoutStopSec %v, drain %v (%v): want ten seconds more than that", stop, drain, err)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("no systemd here: the unit is not checked further")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The program has to be there for the check.
	unit := write(t, t.TempDir(), "longwire.service", strings.Replace(text, "/usr/local/bin/longwire", self, 1))
	if out, err := exec.Command("systemd-analyze", "verify", unit).CombinedOutput(); err != nil || bytes.Contains(out, []byte("longwire.service")) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", unit).CombinedOutput(); err != nil {
		t.Errorf("its exposure is above 2.0: %v\n%s", err, out)
	}
}

// TestKustomize builds the base, where there is kubectl, and checks its times, probes and configuration.
func TestKustomize(t *testing.T) {
	const base = "deploy/kustomize/base"
	drain := drainOf(t, base+"/longwire.yaml")
	text := ""
	if path, err := exec.LookPath("kubectl"); err == nil {
		cmd := exec.Command(path, "kustomize", base)
		cmd.Dir = root
		b, err := cmd.Output()
		if err != nil {
			t.Fatalf("kubectl kustomize: %v", err)
		}
		text = string(b)
	} else {
		t.Log("no kubectl here: the parts are read as they are")
		var k struct{ Resources []string }
		strict(t, base+"/kustomization.yaml", &k)
		for _, r := range k.Resources {
			text += "---\n" + read(t, base+"/"+r)
		}
	}
	type probe struct {
		HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
	}
	kinds := make(map[string]bool)
	d := yaml.NewDecoder(strings.NewReader(text))
	for range 20 {
		var o struct {
			Kind string
			Spec struct {
				Template struct {
					Spec struct {
						Grace      int `yaml:"terminationGracePeriodSeconds"`
						Containers []struct {
							Readiness probe `yaml:"readinessProbe"`
							Liveness  probe `yaml:"livenessProbe"`
							Lifecycle struct {
								PreStop struct {
									Sleep struct{ Seconds int }
								} `yaml:"preStop"`
							}
						}
					}
				}
			}
		}
		if err := d.Decode(&o); err != nil {
			break
		}
		kinds[o.Kind] = true
		if o.Kind != "Deployment" {
			continue
		}
		pod := o.Spec.Template.Spec
		if len(pod.Containers) != 1 {
			t.Fatalf("%d containers, want one", len(pod.Containers))
		}
		c := pod.Containers[0]
		if c.Readiness.HTTPGet.Path != "/readyz" || c.Liveness.HTTPGet.Path != "/healthz" {
			t.Errorf("probes %+v, %+v: want /readyz and /healthz", c.Readiness, c.Liveness)
		}
		sleep := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
		if grace := time.Duration(pod.Grace) * time.Second; sleep == 0 || grace < sleep+drain+10*time.Second {
			t.Errorf("terminationGracePeriodSeconds %v, preStop %v, drain %v: want ten seconds more than those", grace, sleep, drain)
		}
	}
	for _, k := range []string{"Deployment", "Service", "PodDisruptionBudget"} {
		if !kinds[k] {
			t.Errorf("no %s among %v", k, slices.Sorted(maps.Keys(kinds)))
		}
	}
}

// TestOperator checks the variants with tracing and the admin listener: they may trace and nothing more, the listener is
// reached from the machine or pod itself only, and its token is no part of them.
func TestOperator(t *testing.T) {
	options := read(t, "docs/options.md")
	known := func(where, name string) {
		if !strings.Contains(options, "`"+name+"`") {
			t.Errorf("%s: %s is no option", where, name)
		}
	}
	var c struct {
		Services map[string]struct {
			Environment map[string]string
			User        string
			Add         []string `yaml:"cap_add"`
			Ports       []string
		}
	}
	strict(t, "deploy/compose.operator.yml", &c)
	s := c.Services["longwire"]
	if len(c.Services) != 1 || !slices.Equal(s.Add, []string{"BPF", "PERFMON"}) || s.User != "0:0" || s.Environment["LONGWIRE_TRACE"] != "true" {
		t.Errorf("compose: %+v, want one service that is root with BPF and PERFMON and traces", c.Services)
	}
	for _, p := range s.Ports {
		if !strings.HasPrefix(p, "127.0.0.1:") {
			t.Errorf("compose: the port %s is everybody's", p)
		}
	}
	if len(s.Ports) != 1 || !strings.HasPrefix(s.Environment["LONGWIRE_ADMIN_TOKEN"], "${LONGWIRE_ADMIN_TOKEN:?") {
		t.Errorf("compose: ports %v, token %q, want one port and a token that somebody has to choose", s.Ports, s.Environment["LONGWIRE_ADMIN_TOKEN"])
	}
	for name := range s.Environment {
		known("compose", name)
	}

	cmd := exec.Command(program(t, "kubectl"), "kustomize", "deploy/kustomize/operator")
	cmd.Dir = root
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl kustomize: %v", err)
	}
	type security struct {
		User         *int  `yaml:"runAsUser"`
		Escalation   *bool `yaml:"allowPrivilegeEscalation"`
		Capabilities struct{ Add, Drop []string }
	}
	var o struct {
		Kind string
		Spec struct {
			Template struct {
				Spec struct {
					Security   security `yaml:"securityContext"`
					Containers []struct {
						Env []struct {
							Name, Value string
							From        struct {
								Secret struct{ Name, Key string } `yaml:"secretKeyRef"`
							} `yaml:"valueFrom"`
						}
						Ports    []struct{ Name string }
						Security security `yaml:"securityContext"`
					}
				}
			}
		}
	}
	for _, part := range bytes.Split(text, []byte("\n---\n")) {
		if !bytes.Contains(part, []byte("kind: Deployment\n")) {
			continue
		}
		if err := yaml.Unmarshal(part, &o); err != nil {
			t.Fatal(err)
		}
	}
	pod := o.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		t.Fatalf("%d containers, want one", len(pod.Containers))
	}
	one := pod.Containers[0]
	if caps := one.Security.Capabilities; pod.Security.User == nil || *pod.Security.User != 0 || one.Security.Escalation == nil || *one.Security.Escalation || !slices.Equal(caps.Drop, []string{"ALL"}) || !slices.Equal(caps.Add, []string{"BPF", "PERFMON"}) {
		t.Errorf("kustomize: %+v, %+v: want root with BPF and PERFMON and nothing to gain", pod.Security, one.Security)
	}
	got := make(map[string]string)
	for _, e := range one.Env {
		known("kustomize", e.Name)
		got[e.Name] = e.Value + e.From.Secret.Name
	}
	if want := map[string]string{"LONGWIRE_TRACE": "true", "LONGWIRE_ADMIN": "127.0.0.1:6060", "LONGWIRE_ADMIN_TOKEN": "longwire-admin"}; !maps.Equal(got, want) {
		t.Errorf("kustomize: environment %v, want %v", got, want)
	}
	if len(one.Ports) != 1 {
		t.Errorf("kustomize: ports %v, want the gateway's alone", one.Ports)
	}
}
