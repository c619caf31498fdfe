package ceph

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseDaemons(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"monitor with both protocols": {
			`{"mons":[{"name":"a","public_addrs":{"addrvec":[{"type":"v2","addr":"10.0.0.1:3300","nonce":0}]},"addr":"10.0.0.1:6789/0","public_addr":"10.0.0.1:6789/0"}]}`,
			[]string{"10.0.0.1"},
		},
		"OSD with a network of its own, and blocked clients, which are none": {
			`{"osds":[{"osd":0,"public_addr":"10.0.0.2:6801/7","cluster_addr":"192.168.9.2:6802/7"}],"blocklist":{"10.0.0.9:0/5":"2027-01-01T00:00:00.0+0000"},"range_blocklist":{"cidr:10.9.0.0:0/16":"x"}}`,
			[]string{"10.0.0.2", "192.168.9.2"},
		},
		"standby manager's metadata": {`[{"name":"y","addr":"10.0.0.3","addrs":"10.0.0.3","hostname":"h"}]`, []string{"10.0.0.3"}},
		"metadata server":            {`{"filesystems":[{"mdsmap":{"info":{"gid_4":{"addr":"[fd98::4]:6805/9"}}}}],"standbys":[]}`, []string{"fd98::4"}},
		"rbd-mirror":                 {`{"services":{"rbd-mirror":{"daemons":{"summary":"","4321":{"addr":"10.0.0.6:0/77"}}}}}`, []string{"10.0.0.6"}},
		"OSD that has not started":   {`{"osds":[{"public_addr":":/0","cluster_addr":"0.0.0.0:0/0"}]}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ips, err := parseDaemons([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, ip := range ips {
				got = append(got, ip.String())
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.want, slices.Compact(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMirrorHosts(t *testing.T) {
	t.Parallel()
	named := []netip.Addr{netip.MustParseAddr("10.1.0.6")}
	text, err := os.ReadFile("testdata/service_dump_16.2.15.json")
	if err != nil {
		t.Fatal(err)
	}
	realServices := string(text)
	for name, c := range map[string]struct {
		dump string
		want map[netip.Addr]bool
	}{
		"none that registered":      {`{"epoch":1,"services":{}}`, map[netip.Addr]bool{named[0]: true}},
		"as a real cluster says it": {realServices, map[netip.Addr]bool{named[0]: true, netip.MustParseAddr("10.87.20.2"): true}},
		"those of rbd-mirror, and of no other service": {
			`{"services":{"rgw":{"daemons":{"summary":"","7":{"addr":"10.0.0.9:0/1"}}},"rbd-mirror":{"daemons":{"summary":"",
				"4321":{"addr":"10.0.0.6:0/77","metadata":{"hostname":"10.0.0.8"}},"4322":{"addr":"[fd98::6]:0/78"}}}}}`,
			map[netip.Addr]bool{named[0]: true, netip.MustParseAddr("10.0.0.6"): true, netip.MustParseAddr("fd98::6"): true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := NewCluster(answering{answer: func(string) ([]byte, error) { return []byte(c.dump), nil }})
			cluster.mirrors = named
			got, err := cluster.MirrorHosts(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStagedOn(t *testing.T) {
	t.Parallel()
	got := stagedOn(map[string]string{
		".rbd.csi.ceph.com/clientaddress/0001-0009-rook-ceph-0000000000000002-24d8/node-a": "10.0.0.5",
		".rbd.csi.ceph.com/clientAddress/node-b":                                           "[fd98::7]",
		".rbd.csi.ceph.com/clientaddress/a/static/image/node-c":                            "100.64.0.5",
		".rbd.csi.ceph.com/clientaddress/handle/node-d":                                    "nonsense",
		".rbd.csi.ceph.com/encrypted":                                                      "true",
	})
	want := map[string]netip.Addr{
		"node-a": netip.MustParseAddr("10.0.0.5"), "node-b": netip.MustParseAddr("fd98::7"), "node-c": netip.MustParseAddr("100.64.0.5"),
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// answering is a connection whose monitors answer by the command's text.
type answering struct {
	Conn
	answer func(command string) ([]byte, error)
}

func (a answering) MonCommand(_ context.Context, command []byte) ([]byte, error) {
	return a.answer(string(command))
}

func TestDaemonHostsNeedEveryMap(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(string) ([]byte, error){
		"none without a monitor's address": func(string) ([]byte, error) { return []byte("{}"), nil },
		"none if one map is refused": func(command string) ([]byte, error) {
			if command == `{"format":"json","prefix":"fs dump"}` {
				return nil, &CommandError{Command: "fs dump", Errno: syscall.EACCES}
			}
			return []byte(`{"addr":"10.0.0.1:6789/0"}`), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if hosts, err := NewCluster(answering{answer: answer}).DaemonHosts(context.Background()); err == nil {
				t.Errorf("got %v", hosts)
			}
		})
	}
}

func FuzzParseMirrors(f *testing.F) {
	dump, err := os.ReadFile("testdata/service_dump_16.2.15.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(dump)
	f.Fuzz(func(t *testing.T, text []byte) {
		ips, err := parseMirrors(text)
		for _, ip := range ips {
			if err != nil || !ip.IsValid() || ip.IsUnspecified() || ip.Is4In6() {
				t.Errorf("%v, %v", ip, err)
			}
		}
	})
}

func FuzzParseDaemons(f *testing.F) {
	dump, err := os.ReadFile("testdata/osd_dump_16.2.15.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(dump)
	f.Add([]byte(`{"mons":[{"addr":"10.0.0.1:6789/0"}],"blocklist":{"10.0.0.9:0/5":"x"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		ips, err := parseDaemons(text)
		for _, ip := range ips {
			if err != nil || !ip.IsValid() || ip.IsUnspecified() || ip.Is4In6() {
				t.Errorf("%v, %v", ip, err)
			}
		}
	})
}

func FuzzStagedOn(f *testing.F) {
	f.Add(".rbd.csi.ceph.com/clientaddress/0001-0009-rook-ceph-0000000000000002-24d8/node-a", "10.0.0.5")
	f.Add(".rbd.csi.ceph.com/clientAddress/node-b", "[fd98::7]")
	f.Add(".rbd.csi.ceph.com/clientaddress/", "::ffff:10.0.0.5")
	f.Fuzz(func(t *testing.T, key, value string) {
		for node, ip := range stagedOn(map[string]string{key: value}) {
			if node == "" || !ip.IsValid() || ip.Is4In6() || ip.Zone() != "" {
				t.Errorf("%q: %q is %q at %v", key, value, node, ip)
			}
		}
	})
}
