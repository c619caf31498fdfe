package main

import (
	"math"
	"runtime/debug"
	"testing"
)

// It changes what holds for the whole process, so that nothing runs beside it.
func TestGoKeepsToThreeQuartersOfTheContainersMemory(t *testing.T) {
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetMemoryLimit(limit); debug.SetGCPercent(percent) })
	for name, test := range map[string]struct {
		limit, own string
		want       int64
		fails      bool
	}{
		"as the chart says it":          {limit: "268435456", want: 201326592},
		"outside a container":           {want: math.MaxInt64},
		"where somebody says otherwise": {limit: "268435456", own: "1GiB", want: math.MaxInt64},
		"with a unit":                   {limit: "256Mi", want: math.MaxInt64, fails: true},
		"nothing at all":                {limit: "0", want: math.MaxInt64, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			debug.SetMemoryLimit(math.MaxInt64)
			t.Setenv("MEMORY_LIMIT", test.limit)
			t.Setenv("GOMEMLIMIT", test.own)
			t.Setenv("GOGC", "")
			if err := limitMemory(); (err != nil) != test.fails {
				t.Errorf("error %v", err)
			}
			if got := debug.SetMemoryLimit(-1); got != test.want {
				t.Errorf("limit %d, want %d", got, test.want)
			}
		})
	}
}
