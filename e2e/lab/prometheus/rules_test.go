package prometheus

import "testing"

func TestAlertsAreHastenedAndNothingElse(t *testing.T) {
	t.Parallel()
	const rules = `
      - alert: Slow
        expr: sum(rate(pods_total[5m])) > 0
        for: 15m
        annotations:
          description: since 5m
      - alert: Paused
        expr: paused > 0
        for: 1h
`
	const want = `
      - alert: Slow
        expr: sum(rate(pods_total[5m])) > 0
        for: 15s
        annotations:
          description: since 5m
      - alert: Paused
        expr: paused > 0
        for: 1m
`
	if got := string(hasten([]byte(rules))); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
