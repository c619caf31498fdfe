package network

import (
	"context"
	"fmt"
)

// Target is what a node is cut off from.
type Target string

// What a node can be cut off from.
const (
	API  Target = "api"  // the Kubernetes API server
	Ceph Target = "ceph" // all Ceph daemons
	All  Target = "all"  // everything but the node itself, as when the cable is pulled
)

func (t Target) match(direction string) (string, error) {
	switch t {
	case API:
		return "ip " + direction + " " + APIAddress.String(), nil
	case Ceph:
		return fmt.Sprintf("ip %s { %s, %s }", direction, CephAddress, SecondCephAddress), nil
	case All:
		return "meta " + map[string]string{"saddr": "iifname", "daddr": "oifname"}[direction] + " eth0", nil
	default:
		return "", fmt.Errorf("the target %q is unknown: use %s, %s or %s", t, API, Ceph, All)
	}
}

// Cut drops all packets between a node and a target, both ways and silently: established connections hang, as they do when a switch
// fails, and nobody sees a reset. That holds for a VM in the node, too. Cuts add up until Restore.
func (n *Network) Cut(ctx context.Context, node string, target Target) error {
	host, err := n.host(node)
	if err != nil {
		return err
	}
	in, err := target.match("saddr")
	if err != nil {
		return err
	}
	out, err := target.match("daddr")
	if err != nil {
		return err
	}
	rules := `table inet rbdlab {
	chain input { type filter hook input priority 0; ` + in + ` drop; }
	chain output { type filter hook output priority 0; ` + out + ` drop; }
	chain forward { type filter hook forward priority 0; ` + in + ` drop; ` + out + ` drop; }
}
`
	if err := run(ctx, rules, "nsenter", "--net="+namespaceDir+"/"+host.NetNS, "nft", "-f", "-"); err != nil {
		return fmt.Errorf("cutting node %s off from %s: %w", node, target, err)
	}
	return nil
}

// Restore undoes all cuts of a node. None is no error.
func (n *Network) Restore(ctx context.Context, node string) error {
	host, err := n.host(node)
	if err != nil {
		return err
	}
	const rules = "add table inet rbdlab\ndelete table inet rbdlab\n" // add first: the table may not be there
	if err := run(ctx, rules, "nsenter", "--net="+namespaceDir+"/"+host.NetNS, "nft", "-f", "-"); err != nil {
		return fmt.Errorf("restoring the network of node %s: %w", node, err)
	}
	return nil
}

func (n *Network) host(node string) (Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	host, ok := n.hosts[node]
	if !ok {
		return Host{}, fmt.Errorf("node %s is not in the network: call AddNode first", node)
	}
	return host, nil
}
