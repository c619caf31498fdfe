package main

import (
	"io"
	"testing"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

func TestDoctorReadsTheMetricsWhereTheRemediatorServesThem(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		":8080":          "http://localhost:8080/metrics",
		"0.0.0.0:8080":   "http://localhost:8080/metrics",
		"[::]:8080":      "http://localhost:8080/metrics",
		"127.0.0.1:9083": "http://127.0.0.1:9083/metrics",
		"[fd00::7]:8080": "http://[fd00::7]:8080/metrics",
		"0":              "",
	} {
		if got, err := metricsURL(address); err != nil || got != want {
			t.Errorf("%s: %q, want %q (%v)", address, got, want, err)
		}
	}
}

func TestDoctorCalledWronglyAsksNothing(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]doctorOptions{
		"an output that it does not have": {output: "wide", metrics: ":8080", verb: verb{namespace: "rbd-rescue"}},
		"metrics at no address":           {output: "json", metrics: "here", verb: verb{namespace: "rbd-rescue"}},
		"no namespace":                    {output: "json", metrics: "0"},
	} {
		if err := o.run(t.Context(), io.Discard); exit.Code(err) != exit.Misused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
