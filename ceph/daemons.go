package ceph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
)

// Daemon is a kind of daemon, in words for people.
type Daemon string

// The kinds of daemons that a cluster's maps tell.
const (
	Manager        Daemon = "a manager"
	Service        Daemon = "a gateway, a mirror or the like"
	Monitor        Daemon = "a monitor"
	ObjectStore    Daemon = "an OSD"
	MetadataServer Daemon = "a metadata server"
)

// OpensImages tells whether such a daemon may have an RBD image open as its own client: a manager flattens images and takes
// scheduled snapshots, gateways and mirrors are there for it.
func (d Daemon) OpensImages() bool { return d == Manager || d == Service }

// daemonMaps are the maps in which a cluster keeps the addresses of its daemons. Standby managers have theirs in the
// metadata only. Daemons that open images come first, so that a host with several kinds counts as theirs.
var daemonMaps = []struct {
	command string
	kind    Daemon
}{
	{"mgr dump", Manager},
	{"mgr metadata", Manager},
	{"service dump", Service},
	{"mon dump", Monitor},
	{"osd dump", ObjectStore},
	{"fs dump", MetadataServer},
}

// DaemonHosts are the hosts on which daemons of the cluster live, each with the kind of one of them. It needs mon 'allow r'.
// A host that is on the blocklist cuts its daemons off as well, as far as they are clients of others (facts/field.md §2.7).
func (c *Cluster) DaemonHosts(ctx context.Context) (map[netip.Addr]Daemon, error) {
	hosts := map[netip.Addr]Daemon{}
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
