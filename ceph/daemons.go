package ceph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
)

// daemonMaps are the maps in which a cluster keeps the addresses of its daemons. Standby managers have theirs in the
// metadata only.
var daemonMaps = []struct{ command, kind string }{
	{"mon dump", "a monitor"},
	{"osd dump", "an OSD"},
	{"mgr dump", "a manager"},
	{"mgr metadata", "a manager"},
	{"fs dump", "a metadata server"},
	{"service dump", "a gateway or mirror"}, // rgw, rbd-mirror
}

// DaemonHosts are the hosts on which daemons of the cluster live, each with a word for one of them. It needs mon 'allow r'.
// A host that is on the blocklist cuts its daemons off as well, as far as they are clients of others (facts/field.md §2.7).
func (c *Cluster) DaemonHosts(ctx context.Context) (map[netip.Addr]string, error) {
	hosts := map[netip.Addr]string{}
	for _, m := range daemonMaps {
		command, err := json.Marshal(map[string]string{"prefix": m.command, "format": "json"})
		if err != nil {
			return nil, fmt.Errorf("encoding the command: %w", err)
		}
		out, err := c.conn.MonCommand(ctx, command)
		if err != nil {
			return nil, fmt.Errorf("finding the hosts of Ceph's daemons: %w", err)
		}
		ips, err := parseDaemons(out)
		if err != nil {
			return nil, fmt.Errorf("finding the hosts of Ceph's daemons: the answer of %s: %w", m.command, err)
		}
		if m.command == "mon dump" && len(ips) == 0 {
			return nil, errors.New("finding the hosts of Ceph's daemons: the answer of mon dump has no address")
		}
		for _, ip := range ips {
			if hosts[ip] == "" {
				hosts[ip] = m.kind
			}
		}
	}
	return hosts, nil
}

// parseDaemons takes every daemon's address in a map, wherever in it: the maps differ in form from release to release, and
// one address too many only means one refusal more. Lists of blocked clients are none of daemons.
func parseDaemons(text []byte) ([]netip.Addr, error) {
	var document any
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("decoding it: %w", err)
	}
	var ips []netip.Addr
	collectDaemons(document, &ips)
	return ips, nil
}

func collectDaemons(value any, ips *[]netip.Addr) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			switch key {
			case "blocklist", "blacklist", "range_blocklist": // keyed by address
			default:
				collectDaemons(inner, ips)
			}
		}
	case []any:
		for _, inner := range value {
			collectDaemons(inner, ips)
		}
	case string:
		if ip, ok := daemonIP(value); ok {
			*ips = append(*ips, ip)
		}
	}
}

// daemonIP reads "10.0.0.5:6800/42", a list of such, or a bare "10.0.0.5".
func daemonIP(text string) (netip.Addr, bool) {
	var ip netip.Addr
	if addresses, err := ParseAddresses(text); err == nil {
		ip = addresses[0].IP
	} else if ip, err = netip.ParseAddr(text); err != nil {
		return ip, false
	}
	return ip.Unmap(), !ip.IsUnspecified()
}
