package network

import (
	"context"
	"fmt"
	"net/netip"
)

const (
	tap        = "rbdlab-tap"
	natTable   = "rbdlab-nat"
	guestBits  = 30
	guestLinks = "10.89.0.0/30" // the same in every node: nobody else sees it
)

// Guest is the place of a VM inside a node.
type Guest struct {
	Tap string
	// Address of the VM, and of the node on the same link.
	Address netip.Prefix
	Gateway netip.Addr
}

// AddGuest makes a link between a node and a VM in it. Towards everybody else the VM has the node's own address, as what runs
// on a node has: rbd-rescue fences no client that lies elsewhere (S2).
func (n *Network) AddGuest(ctx context.Context, node string) (Guest, error) {
	host, err := n.host(node)
	if err != nil {
		return Guest{}, err
	}
	gateway := netip.MustParsePrefix(guestLinks).Addr().Next()
	guest := Guest{Tap: tap, Gateway: gateway, Address: netip.PrefixFrom(gateway.Next(), guestBits)}
	inside := []string{"--net=" + namespaceDir + "/" + host.NetNS}
	rules := "table ip " + natTable + " { chain postrouting { type nat hook postrouting priority srcnat; oifname eth0 masquerade; }; }\n"
	for _, step := range []func() error{
		func() error {
			return batch(ctx, host.NetNS,
				"tuntap add dev "+tap+" mode tap",
				fmt.Sprintf("addr add %s/%d dev %s", gateway, guestBits, tap),
				"link set "+tap+" up")
		},
		func() error {
			return run(ctx, "1\n", "nsenter", append(inside, "tee", "/proc/sys/net/ipv4/ip_forward")...)
		},
		func() error { return run(ctx, rules, "nsenter", append(inside, "nft", "-f", "-")...) },
	} {
		if err := step(); err != nil {
			return Guest{}, fmt.Errorf("adding a VM to node %s: %w", node, err)
		}
	}
	return guest, nil
}
