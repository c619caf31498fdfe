package ceph

import (
	"encoding/json"
	"maps"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Address{
		"10.88.0.11:0/1929330598":        {IP: netip.MustParseAddr("10.88.0.11"), Nonce: 1929330598},
		"v1:10.88.0.11:0/42":             {IP: netip.MustParseAddr("10.88.0.11"), Nonce: 42},
		"v2:10.88.0.11:6800/42":          {IP: netip.MustParseAddr("10.88.0.11"), Port: 6800, Nonce: 42},
		"any:10.88.0.11:0/0":             {IP: netip.MustParseAddr("10.88.0.11")},
		"[fd98::7]:0/128":                {IP: netip.MustParseAddr("fd98::7"), Nonce: 128},
		"[::ffff:10.88.0.11]:0/42":       {IP: netip.MustParseAddr("10.88.0.11"), Nonce: 42},
		"v2:[fd98:0:0::7]:0/4294967295":  {IP: netip.MustParseAddr("fd98::7"), Nonce: 4294967295},
		"255.255.255.255:65535/00000042": {IP: netip.MustParseAddr("255.255.255.255"), Port: 65535, Nonce: 42},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			got, err := ParseAddress(text)
			if err != nil || got != want {
				t.Errorf("got %v, %v; want %v", got, err, want)
			}
		})
	}
}

func TestParseAddressRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "10.0.0.5", "10.0.0.5:0", "10.0.0.5/42", "10.0.0.5:0/", "10.0.0.5:/42", ":0/42", "10.0.0.5:0/4294967296", "10.0.0.5:65536/1",
		"10.0.0.5:0/-1", "10.0.0.5:0/+1", "10.0.0.5:0/1 ", " 10.0.0.5:0/1", "10.0.0.5:0/1/2", "fd98::7:0/1", "[10.0.0.5]:0/1", "[fd98::7:0/1",
		"fd98::7]:0/1", "[fe80::1%eth0]:0/1", "host:0/1", "v3:10.0.0.5:0/1", "v1:v2:10.0.0.5:0/1", "10.0.0.5:0x0/1", "-", "10.0.0.0/8:0/0",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			if got, err := ParseAddress(text); err == nil {
				t.Errorf("took it for %v", got)
			}
		})
	}
}

func TestParseAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"10.0.0.5:0/42":                       {"10.0.0.5:0/42"},
		"[v2:10.0.0.5:0/42,v1:10.0.0.5:0/42]": {"10.0.0.5:0/42"},
		"[v2:[fd98::7]:0/42,v1:10.0.0.5:0/7]": {"[fd98::7]:0/42", "10.0.0.5:0/7"},
		"[fd98::7]:0/42":                      {"[fd98::7]:0/42"},
	} {
		addresses, err := ParseAddresses(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		var got []string
		for _, a := range addresses {
			got = append(got, a.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	if _, err := ParseAddresses("[v2:10.0.0.5:0/42"); err == nil {
		t.Error("took a list that is not closed")
	}
}

func TestAddressAsText(t *testing.T) {
	t.Parallel()
	want := map[Address]string{MustParseAddress("10.0.0.5:0/42"): "a", MustParseAddress("[fd98::7]:0/1"): "b"}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != `{"10.0.0.5:0/42":"a","[fd98::7]:0/1":"b"}` {
		t.Errorf("got %s", text)
	}
	var got map[Address]string
	if err := json.Unmarshal(text, &got); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := (Address{}).MarshalText(); err == nil {
		t.Error("wrote an address that is none")
	}
	if err := json.Unmarshal([]byte(`{"host:0/1":"a"}`), &got); err == nil {
		t.Error("read an address that is none")
	}
}

// FuzzParseAddress: what parses comes back from its text as the same value; nothing panics.
func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{"10.88.0.11:0/1929330598", "v2:[fd98::7]:3300/0", "[::ffff:1.2.3.4]:0/1", "any:0.0.0.0:0/0", "[fe80::1%25]:0/1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		address, err := ParseAddress(text)
		if err != nil {
			return
		}
		again, err := ParseAddress(address.String())
		if err != nil || again != address {
			t.Errorf("%q is %v, whose text %q is %v (%v)", text, address, address.String(), again, err)
		}
	})
}
