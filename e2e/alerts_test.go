package e2e

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rbd-rescue/rbd-rescue/e2e/lab/prometheus"
)

// aboutTime are alerts that something takes minutes. As they are seconds here, they may fire where all is well.
var aboutTime = []string{"RBDRescueFenceUnproven", "RBDRescueRecordMissing", "RBDRescueRecoverySlow", "RBDRescueVolumeHeld"}

// alerts are the chart's, in a Prometheus that watches a scenario.
type alerts struct {
	*scenario
	server *prometheus.Server
	since  time.Time
}

// alerts has a Prometheus watch from now on, where nothing fires, until the scenario ends.
func (s *scenario) alerts() *alerts {
	s.Helper()
	a := &alerts{scenario: s}
	var err error
	a.server, err = s.lab.StartPrometheus(s.ctx)
	s.must(err)
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := a.server.Stop(ctx); err != nil {
			s.Errorf("stopping Prometheus: %v", err)
		}
	})
	a.bothAreUp()
	s.eventually(soon, "no alert fires or is about to", func() (bool, error) { return a.server.Settled(s.ctx) })
	a.since = time.Now()
	return a
}

// bothAreUp waits until Prometheus says so of the webhook and the remediator, by the names that their Services have.
func (a *alerts) bothAreUp() {
	a.Helper()
	a.eventually(soon, "Prometheus scrapes both components", func() (bool, error) {
		health, err := a.server.Health(a.ctx)
		return maps.Equal(health, map[string]string{"rbd-rescue-webhook": "", "rbd-rescue-remediator": ""}), err
	})
}

// fires waits for an alert, of a node if one is named.
func (a *alerts) fires(name, node string) {
	a.Helper()
	a.eventually(soon, strings.TrimSpace("alert "+name+" fires "+node), func() (bool, error) {
		firing, err := a.server.Firing(a.ctx)
		return slices.ContainsFunc(firing, func(alert prometheus.Alert) bool { return alert.Name() == name && alert.Labels["node"] == node }), err
	})
}

func (a *alerts) allEnd() {
	a.Helper()
	a.eventually(soon, "no alert fires", func() (bool, error) {
		firing, err := a.server.Firing(a.ctx)
		return len(firing) == 0, err
	})
}

// haveFired fails if others have fired, at any time, but those that are about time.
func (a *alerts) haveFired(names ...string) {
	a.Helper()
	fired, err := a.server.Fired(a.ctx, time.Since(a.since))
	a.must(err)
	a.Logf("%6.1f s  these alerts have fired: %v", time.Since(a.began).Seconds(), fired)
	for _, name := range names {
		if !slices.Contains(fired, name) {
			a.Errorf("alert %s has not fired", name)
		}
	}
	for _, name := range fired {
		if !slices.Contains(names, name) && !slices.Contains(aboutTime, name) {
			a.Errorf("alert %s has fired, and nothing was wrong with that", name)
		}
	}
}
