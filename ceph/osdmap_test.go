package ceph

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseOSDMap(t *testing.T) {
	t.Parallel()
	want := OSDMap{
		Epoch: 42, FSID: "f51d",
		Blocklist: map[Address]time.Time{MustParseAddress("10.0.0.5:0/42"): time.Date(2027, 11, 23, 3, 0, 0, 5e8, time.UTC)},
		Pools:     map[string]Pool{"rbd": {Name: "rbd", PlacementGroups: 16, Hash: 2}},
	}
	for name, text := range map[string]string{
		"of Ceph 16": `{"epoch":42,"fsid":"f51d","pools":[{"pool_name":"rbd","pg_num":16,"object_hash":2}],
			"blocklist":{"10.0.0.5:0/42":"2027-11-23T03:00:00.500000+0000"}}`,
		"of Ceph 14": `{"epoch":42,"fsid":"f51d","pools":[{"pool_name":"rbd","pg_num":16,"object_hash":2}],
			"blacklist":{"10.0.0.5:0/42":"2027-11-23 03:00:00.500000"}}`,
		"in another zone": `{"epoch":42,"fsid":"f51d","pools":[{"pool_name":"rbd","pg_num":16,"object_hash":2}],
			"blocklist":{"10.0.0.5:0/42":"2027-11-23T05:00:00.500000+0200"}}`,
		"with an entry that is none of ours": `{"epoch":42,"fsid":"f51d","pools":[{"pool_name":"rbd","pg_num":16,"object_hash":2}],
			"blocklist":{"10.0.0.5:0/42":"2027-11-23T03:00:00.500000+0000","cidr:10.0.0.0:0/8":"?"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseOSDMap([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(Address{}), cmpopts.EquateApproxTime(0)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for name, text := range map[string]string{
		"nothing":               ``,
		"no epoch":              `{}`,
		"a time that is none":   `{"epoch":42,"blocklist":{"10.0.0.5:0/42":"soon"}}`,
		"an epoch that is none": `{"epoch":-1}`,
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			if _, err := parseOSDMap([]byte(text)); err == nil {
				t.Error("took it")
			}
		})
	}
}

// FuzzParseOSDMap: nothing that a monitor could answer makes it panic, and every entry it takes can be named to the blocklist again.
func FuzzParseOSDMap(f *testing.F) {
	f.Add([]byte(`{"epoch":42,"blocklist":{"10.0.0.5:0/42":"2027-11-23T03:00:00.500000+0000"},"pools":[{"pool_name":"rbd","pg_num":16}]}`))
	f.Add([]byte(`{"epoch":1,"blacklist":{"10.0.0.5:0/42":"2027-11-23 03:00:00"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseOSDMap(text)
		if err != nil {
			return
		}
		for address := range m.Blocklist {
			if again, err := ParseAddress(address.String()); err != nil || again != address {
				t.Errorf("took %v, whose text is %v (%v)", address, again, err)
			}
		}
	})
}
