package ceph

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
)

// MirrorHosts are the hosts from which rbd-mirror daemons use this cluster's mirrored images: those of its own site, which register
// as a service, and those that SetMirrors names. It needs mon 'allow r'.
func (c *Cluster) MirrorHosts(ctx context.Context) (map[netip.Addr]bool, error) {
	out, err := c.conn.MonCommand(ctx, []byte(`{"prefix":"service dump","format":"json"}`))
	if err != nil {
		return nil, fmt.Errorf("finding the hosts of rbd-mirror: %w", err)
	}
	ips, err := parseMirrors(out)
	if err != nil {
		return nil, fmt.Errorf("finding the hosts of rbd-mirror: the answer of service dump: %w", err)
	}
	hosts := map[netip.Addr]bool{}
	for _, ip := range append(ips, c.mirrors...) {
		hosts[ip] = true
	}
	return hosts, nil
}

// MirrorsNamed tells whether SetMirrors has named hosts, so that a client elsewhere is no mirror daemon's.
func (c *Cluster) MirrorsNamed() bool { return len(c.mirrors) > 0 }

// parseMirrors takes the addresses of the service rbd-mirror. Its daemons' metadata are their own words, and no addresses.
func parseMirrors(text []byte) ([]netip.Addr, error) {
	var dump struct {
		Services map[string]struct {
			Daemons map[string]json.RawMessage `json:"daemons"`
		} `json:"services"`
	}
	if err := json.Unmarshal(text, &dump); err != nil {
		return nil, fmt.Errorf("decoding it: %w", err)
	}
	var ips []netip.Addr
	for _, raw := range dump.Services["rbd-mirror"].Daemons {
		var daemon struct {
			Addr string `json:"addr"`
		}
		if json.Unmarshal(raw, &daemon) != nil {
			continue // "summary" is a text
		}
		if ip, ok := daemonIP(daemon.Addr); ok {
			ips = append(ips, ip)
		}
	}
	return ips, nil
}
