//go:build librados

package ceph_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	product "github.com/rbd-rescue/rbd-rescue/ceph"
)

// ends measures what the whole design of S4 rests on: an entry that is there keeps its end, whoever asks for another, be it later
// or sooner; only one that was removed before gets a new one. And an end in ten years is told as such.
func (r *releaseTest) ends(ctx context.Context, t *testing.T) {
	const year = 365 * 24 * time.Hour
	cluster := connect(ctx, t, r.options)
	client := product.MustParseAddress("192.0.2.7:0/7")
	until := func() time.Time {
		t.Helper()
		m, err := cluster.ReadOSDMap(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return m.Blocklist[client]
	}
	add := func(ttl time.Duration) time.Time {
		t.Helper()
		if err := cluster.AddToBlocklist(ctx, []product.Address{client}, ttl); err != nil {
			t.Fatal(err)
		}
		return until()
	}
	remove := func() {
		t.Helper()
		if err := cluster.RemoveFromBlocklist(ctx, []product.Address{client}); err != nil {
			t.Fatal(err)
		}
		if end := until(); !end.IsZero() {
			t.Fatalf("it is removed, and listed until %s", end)
		}
	}
	hour := add(time.Hour)
	if end := add(10 * year); !end.Equal(hour) {
		t.Errorf("asked for ten years, an entry of an hour (until %s) lasts until %s", hour, end)
	}
	remove()
	long := add(10 * year)
	if left := time.Until(long); left < 10*year-2*24*time.Hour || left > 10*year+time.Hour {
		t.Errorf("asked for ten years, it lasts until %s", long)
	}
	if end := add(time.Hour); !end.Equal(long) {
		t.Errorf("asked for an hour, an entry of ten years (until %s) lasts until %s", long, end)
	}
	t.Logf("an hour: %s, ten years: %s", hour, long)
	remove()
	if r.Word == "blocklist" { // what csi-addons writes; Ceph before 16 has none
		r.ask(ctx, t, "osd", "blocklist", "range", "add", "192.0.2.0/24", "3600")
		m, err := cluster.ReadOSDMap(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.RangesWith(client.IP); !slices.Equal(got, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}) || len(m.Blocklist) > 0 {
			t.Errorf("one range is cut off: ranges %v, read %v, entries %v", m.Ranges, got, m.Blocklist)
		}
		r.ask(ctx, t, "osd", "blocklist", "range", "rm", "192.0.2.0/24")
	}
}
