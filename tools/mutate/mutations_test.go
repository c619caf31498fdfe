package main

import (
	"path/filepath"
	"testing"
)

// make mutate runs tests for each mutation, and is run seldom: that each mutation still has something to break is looked at every time.
func TestEachMutationFindsItsText(t *testing.T) {
	for _, m := range mutations {
		if _, err := m.broken(filepath.Join("../..", m.file)); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
}
