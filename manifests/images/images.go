// Package images is what Ceph tells of images that carry manifests, as `rbd-rescue image` prints it and `kubectl rescue restore` reads
// it; and the two ways back to a snapshot. It asks Ceph, and knows nothing of Kubernetes.
package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/manifests"
)

// Image is one image.
type Image struct {
	// ClusterID is ceph-csi's name of the Ceph cluster; OtherClusters are those that are known to be other ones.
	ClusterID     string   `json:"clusterID"`
	OtherClusters []string `json:"otherClusters,omitempty"`
	// Image is pool/image or pool/namespace/image.
	Image string `json:"image"`
	Size  uint64 `json:"size"`
	// Watchers have it open for writing now, but for rbd-rescue itself. That there is none proves nothing.
	Watchers []string `json:"watchers,omitempty"`
	// LockOwners hold its exclusive lock.
	LockOwners []string `json:"lockOwners,omitempty"`
	// CutOff are those of the owners and of the clients on record that the blocklist keeps from writing, and will for an hour at least.
	CutOff []string `json:"cutOff,omitempty"`
	// Mirrored tells whether rbd-mirror copies it.
	Mirrored  bool            `json:"mirrored,omitempty"`
	Snapshots []ceph.Snapshot `json:"snapshots,omitempty"`
	// Manifests that it carries; nil for none. Problem says why it, or they, can't be read.
	Manifests *manifests.Manifests `json:"manifests,omitempty"`
	Problem   string               `json:"problem,omitempty"`
}

// margin of an entry of the blocklist before it counts (S1).
const margin = time.Hour

// atOnce bounds how many images of a pool are looked at at the same time.
const atOnce = 8

// ID is the image's own name.
func (i Image) ID() (ceph.Image, error) { return ceph.ParseImage(i.Image) }

// InUse says who uses the image, as far as Ceph knows; empty for nobody.
func (i Image) InUse() string {
	owners := slices.DeleteFunc(slices.Clone(i.LockOwners), func(owner string) bool { return slices.Contains(i.CutOff, owner) })
	switch {
	case len(i.Watchers) > 0:
		return "it is open for writing at " + strings.Join(i.Watchers, ", ")
	case len(owners) > 0:
		return "its exclusive lock is held by " + strings.Join(owners, ", ") + ", which the blocklist does not cut off"
	default:
		return ""
	}
}

// Pool looks at images through one cluster.
type Pool struct {
	ClusterID string
	Clusters  *ceph.Clusters
	// Now is when the blocklist is looked at.
	Now time.Time
}

// List gives the images of a pool, or of a namespace of it, that carry manifests, or of which that can't be told; sorted by name.
func (p Pool) List(ctx context.Context, pool, namespace string) ([]Image, error) {
	cluster, err := p.Clusters.Get(ctx, p.ClusterID)
	if err != nil {
		return nil, err
	}
	names, err := cluster.Images(ctx, pool, namespace)
	if err != nil {
		return nil, err
	}
	look, err := p.begin(ctx, cluster)
	if err != nil {
		return nil, err
	}
	found := make([]Image, len(names))
	slots := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			image := ceph.Image{Pool: pool, Namespace: namespace, Name: name}
			shown, err := look.at(ctx, image)
			if err != nil {
				shown = Image{ClusterID: p.ClusterID, Image: image.String(), Problem: err.Error()}
			}
			found[i] = shown
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("looking at the images of pool %s: %w", pool, context.Cause(ctx))
	}
	found = slices.DeleteFunc(found, func(i Image) bool { return i.Manifests == nil && i.Problem == "" })
	slices.SortFunc(found, func(a, b Image) int { return cmp.Compare(a.Image, b.Image) })
	return found, nil
}

// Show looks at one image, be there manifests or not.
func (p Pool) Show(ctx context.Context, image ceph.Image) (Image, error) {
	cluster, err := p.Clusters.Get(ctx, p.ClusterID)
	if err != nil {
		return Image{}, err
	}
	look, err := p.begin(ctx, cluster)
	if err != nil {
		return Image{}, err
	}
	shown, err := look.at(ctx, image)
	if err != nil {
		return Image{}, err
	}
	shown.OtherClusters = p.others(ctx, look.osdMap.FSID)
	return shown, nil
}

// others are the configured clusterIDs of Ceph clusters that are known to be other ones: one that does not answer may be this one
// under another name.
func (p Pool) others(ctx context.Context, fsid string) []string {
	var others []string
	for _, id := range p.Clusters.IDs() {
		cluster, err := p.Clusters.Get(ctx, id)
		if err != nil {
			continue
		}
		if m, err := cluster.ReadOSDMap(ctx); err == nil && m.FSID != fsid {
			others = append(others, id)
		}
	}
	slices.Sort(others)
	return others
}

type looker struct {
	Pool
	cluster *ceph.Cluster
	osdMap  ceph.OSDMap
	own     []ceph.Address
}

func (p Pool) begin(ctx context.Context, cluster *ceph.Cluster) (looker, error) {
	l := looker{Pool: p, cluster: cluster}
	var err error
	if l.osdMap, err = cluster.ReadOSDMap(ctx); err != nil {
		return l, err
	}
	l.own, err = cluster.OwnAddresses(ctx)
	return l, err
}

func (l looker) at(ctx context.Context, image ceph.Image) (Image, error) {
	use, err := l.cluster.Inspect(ctx, image)
	if err != nil {
		return Image{}, err
	}
	description, err := l.cluster.Describe(ctx, image)
	if err != nil {
		return Image{}, err
	}
	shown := Image{ClusterID: l.ClusterID, Image: image.String(), Size: description.Size, Snapshots: description.Snapshots, Mirrored: use.Mirrored}
	for _, watcher := range use.Watchers {
		if !slices.Contains(l.own, watcher.Address) {
			shown.Watchers = append(shown.Watchers, watcher.Address.String())
		}
	}
	for _, owner := range use.LockOwners {
		shown.LockOwners = append(shown.LockOwners, owner.String())
	}
	if text, carries := use.Metadata[manifests.Key]; carries {
		if m, err := manifests.Decode(text); err != nil {
			shown.Problem = err.Error()
		} else {
			shown.Manifests = &m
		}
	}
	shown.CutOff = l.cutOff(shown)
	return shown, nil
}

func (l looker) cutOff(image Image) []string {
	asked := slices.Clone(image.LockOwners)
	if image.Manifests != nil {
		for _, entry := range image.Manifests.Clients {
			asked = slices.Concat(asked, entry.Clients, entry.Replaced)
		}
	}
	slices.Sort(asked)
	return slices.DeleteFunc(slices.Compact(asked), func(text string) bool {
		client, err := ceph.ParseAddress(text)
		until := l.osdMap.Blocklist[client]
		if host := l.osdMap.Blocklist[client.Host()]; host.After(until) {
			until = host
		}
		return err != nil || until.Before(l.Now.Add(margin))
	})
}

// ErrInUse says that an image is not overwritten, since somebody has it.
var ErrInUse = errors.New("somebody uses the image")

// Rollback overwrites an image that nobody uses, as far as Ceph knows, with a snapshot of it.
func (p Pool) Rollback(ctx context.Context, image ceph.Image, snapshot string) error {
	shown, err := p.Show(ctx, image)
	if err != nil {
		return err
	}
	if user := shown.InUse(); user != "" {
		return fmt.Errorf("image %s is not rolled back: %w: %s", image, ErrInUse, user)
	}
	if _, err := shown.Snapshot(snapshot); err != nil {
		return err
	}
	cluster, err := p.Clusters.Get(ctx, p.ClusterID)
	if err != nil {
		return err
	}
	return cluster.Rollback(ctx, image, snapshot)
}

// Clone makes an image of a snapshot, and shows it.
func (p Pool) Clone(ctx context.Context, image ceph.Image, snapshot, name string, flat bool) (Image, error) {
	cluster, err := p.Clusters.Get(ctx, p.ClusterID)
	if err != nil {
		return Image{}, err
	}
	if err := cluster.Clone(ctx, image, snapshot, name, flat); err != nil {
		return Image{}, err
	}
	return p.Show(ctx, ceph.Image{Pool: image.Pool, Namespace: image.Namespace, Name: name})
}

// Snapshot of the image by its name.
func (i Image) Snapshot(name string) (ceph.Snapshot, error) {
	var names []string
	for _, s := range i.Snapshots {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	if len(names) == 0 {
		return ceph.Snapshot{}, fmt.Errorf("image %s has no snapshot", i.Image)
	}
	return ceph.Snapshot{}, fmt.Errorf("image %s has no snapshot %s; it has %s", i.Image, name, strings.Join(names, ", "))
}
