package main

import (
	"testing"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

func TestTheClusterOfAnImageIsNamedWhereThereAreSeveral(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flag, want string
		configured []string
	}{
		"the only one":                  {configured: []string{"a"}, want: "a"},
		"the only one, by its name":     {flag: "a", configured: []string{"a"}, want: "a"},
		"one of two":                    {flag: "b", configured: []string{"b", "a"}, want: "b"},
		"not told, of two":              {configured: []string{"a", "b"}},
		"one that is not there":         {flag: "c", configured: []string{"a"}},
		"one that is not there, of two": {flag: "c", configured: []string{"a", "b"}},
	} {
		got, err := (&imageVerb{clusterID: test.flag}).cluster(test.configured)
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestSnapshotsAreNamedWhole(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]ceph.Image{
		"rbd/img@s": {Pool: "rbd", Name: "img"}, "rbd/ns/img@s": {Pool: "rbd", Namespace: "ns", Name: "img"},
		"rbd/img": {}, "img@s": {}, "rbd/img@": {}, "rbd/@s": {}, "/img@s": {}, "a/b/c/d@s": {}, "rbd/img@s@t": {Pool: "rbd", Name: "img"},
	} {
		image, snapshot, err := parseSnapshot(text)
		if image != want || (err != nil) != (want == ceph.Image{}) {
			t.Errorf("%q: got %v@%s, %v", text, image, snapshot, err)
		}
	}
}
