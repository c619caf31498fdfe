// Package prometheus runs a real Prometheus beside the lab, with the alerts that the chart ships. It asks only what a person would:
// which targets are up, and which alerts fire.
package prometheus
