package observe

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/volume"
)

// readsForAPage is how many nodes are read one by one rather than a page of all. Two or three boots that have just begun need no page;
// a year of nodes that are gone must not need a call each.
const readsForAPage = 3

// boots tells which nodes still are in a boot that a record names. It remembers what it has read, and is for one look and one
// goroutine: the records of a cluster name the same nodes again and again, most of them in boots that are over.
//
// What it remembers may be older than a record that it is asked about: a boot that has begun since is as one that begins after the look.
type boots struct {
	cache, live client.Reader
	// singly is how many nodes are read from the API one by one before all of them are.
	singly int
	// cached and now are what was read, nil for a node that is not there; listed tells that now has all that are.
	cached, now map[string]*corev1.Node
	listed      bool
}

// newBoots is for a cluster of so many nodes.
func newBoots(cache, live client.Reader, nodes int) *boots {
	return &boots{
		cache: cache, live: live, singly: readsForAPage * (1 + nodes/pageSize),
		cached: map[string]*corev1.Node{}, now: map[string]*corev1.Node{},
	}
}

// node is the one of a name while it has this boot; else nil. A cache that has not heard of the boot yet is not believed.
func (b *boots) node(ctx context.Context, name, boot string) (*corev1.Node, error) {
	for _, read := range []func(context.Context, string) (*corev1.Node, error){b.fromCache, b.fromAPI} {
		node, err := read(ctx, name)
		if err != nil || node != nil && volume.BootID(node) == boot {
			return node, err
		}
	}
	return nil, nil
}

func (b *boots) fromCache(ctx context.Context, name string) (*corev1.Node, error) {
	return remembered(ctx, b.cached, b.cache, name)
}

func (b *boots) fromAPI(ctx context.Context, name string) (*corev1.Node, error) {
	if _, read := b.now[name]; !read && !b.listed && len(b.now) >= b.singly {
		nodes, err := LiveNodes(ctx, b.live)
		if err != nil {
			return nil, err
		}
		for _, node := range nodes {
			b.now[node.Name] = node
		}
		b.listed = true
	}
	if b.listed {
		return b.now[name], nil
	}
	return remembered(ctx, b.now, b.live, name)
}

func remembered(ctx context.Context, read map[string]*corev1.Node, from client.Reader, name string) (*corev1.Node, error) {
	if node, is := read[name]; is {
		return node, nil
	}
	node, err := ReadNode(ctx, from, name)
	if err != nil {
		return nil, err
	}
	read[name] = node
	return node, nil
}
