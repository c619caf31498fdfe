package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/rbd-rescue/rbd-rescue/ceph"
)

// reachable: each configured cluster answers.
func reachable(f Inside, r *report) string {
	if len(f.Clusters) == 0 {
		r.fail("List the clusters under ceph.clusters in the chart's values.", "No Ceph cluster is configured.")
	}
	var told []string
	for _, c := range f.Clusters {
		if c.Unreachable != nil {
			r.fail(fmt.Sprintf("Compare monitors, user and key of cluster %s with `ceph mon dump` and `ceph auth get client.%s`, and see that the remediator's pods reach Ceph's public network; "+
				"until then no node can be fenced there.", c.ID, c.User), "Ceph cluster %s cannot be asked: %v.", c.ID, c.Unreachable)
			continue
		}
		told = append(told, fmt.Sprintf("%s (as client.%s, OSD map %d)", c.ID, c.User, c.Epoch))
	}
	return "Ceph answers: " + strings.Join(told, ", ") + "."
}

// blocklistCaps: the user may write entries and remove them.
func blocklistCaps(f Inside, r *report) string {
	var users []string
	for _, c := range f.Clusters {
		if c.Unreachable != nil {
			continue
		}
		users = append(users, fmt.Sprintf("client.%s in %s", c.User, c.ID))
		for _, right := range []struct {
			err        error
			what, then string
		}{
			{c.Rights.Add, "add to", "no node can be fenced"},
			{c.Rights.Remove, "remove from", "no fence can be lifted: a node stays shut out after its reboot"},
		} {
			switch {
			case right.err == nil:
			case denied(right.err):
				r.fail(c.caps(), "client.%s of Ceph cluster %s may not %s the blocklist: %s.", c.User, c.ID, right.what, right.then)
			default:
				r.warn("Run doctor again when Ceph answers.", "Whether client.%s of Ceph cluster %s may %s the blocklist is not known: %v.", c.User, c.ID, right.what, right.err)
			}
		}
		if denied(c.DaemonsError) {
			r.fail(c.caps(), "client.%s of Ceph cluster %s may not read the maps of its daemons: %v; a node whose client is not known would be refused.", c.User, c.ID, c.DaemonsError)
		}
	}
	if len(users) == 0 {
		return ""
	}
	return "The blocklist may be written by " + strings.Join(users, ", ") + "."
}

// pools: the user may read each pool that holds images or their data, and a fence could be proven there now.
func pools(f Inside, r *report) string {
	var fine []string
	for _, c := range f.Clusters {
		for _, p := range c.Pools {
			where := fmt.Sprintf("pool %s of Ceph cluster %s", poolName(p.PoolRef), c.ID)
			before := len(r.found)
			switch {
			case denied(p.Unproven) || denied(p.Unseen):
				r.fail(c.caps(), "client.%s may not read %s, and %s in it: a node that has one of these cannot be fenced.", c.User, where, lie(p.Volumes))
			case ceph.IsNotFound(p.Unproven):
				r.fail("Remove what is left of these PersistentVolumes, or restore the pool.", "%s does not exist, and %s in it.", upper(where), lie(p.Volumes))
			case p.Unproven != nil:
				r.fail("See `ceph health detail` and `ceph pg dump_stuck`; a cache tier has to go, an inactive placement group needs its OSDs.",
					"A fence could not be proven on %s now: %v.", where, p.Unproven)
			}
			switch {
			case denied(p.Unseen):
			case ceph.IsNotFound(p.Unseen):
				r.warn("Restore the image, or delete its PersistentVolume.", "Image %s in %s does not exist, and a PersistentVolume names it.", p.Image, where)
			case p.Unseen != nil:
				r.warn("Look at it with `rbd status`, and at `ceph health detail`.", "Who uses image %s in %s cannot be told: %v.", p.Image, where, p.Unseen)
			}
			if p.Mirrored && !c.MirrorsNamed {
				r.warn("Name the hosts of the other site's rbd-mirror daemons in mirrorHosts of the cluster's configuration.",
					"Image %s in %s is mirrored and cluster %s names no mirrorHosts: a watcher at an unknown address is refused (ForeignClient).", p.Image, where, c.ID)
			}
			if len(r.found) == before {
				fine = append(fine, fmt.Sprintf("%s of %s", poolName(p.PoolRef), c.ID))
			}
		}
	}
	if len(fine) == 0 {
		return "No PersistentVolume lies in a configured Ceph cluster yet."
	}
	return "A fence can be proven on every pool that holds volumes: " + strings.Join(fine, ", ") + "."
}

// snapshots: the user may take a safety snapshot of each image.
func snapshots(f Inside, r *report) string {
	for _, c := range f.Clusters {
		for _, p := range c.Pools {
			if p.Image != "" && denied(p.NoSnapshots) {
				r.warn(c.caps()+" Or annotate the namespaces with rbd-rescue.io/snapshot=off.",
					"client.%s may not take snapshots in pool %s of Ceph cluster %s: without rbd-rescue.io/snapshot=required its volumes are released with no safety snapshot, and with it they are not released.",
					c.User, poolName(p.PoolRef), c.ID)
			}
		}
	}
	return "Safety snapshots may be taken in every pool that holds images."
}

// clusterIDs: each PersistentVolume's cluster is configured.
func clusterIDs(f Inside, r *report) string {
	unknown := map[string][]string{}
	known := 0
	for _, v := range f.Volumes {
		switch {
		case v.FormError != nil:
		case f.cluster(v.ClusterID) == nil:
			unknown[v.ClusterID] = append(unknown[v.ClusterID], v.Name)
		default:
			known++
		}
	}
	for _, id := range sortedKeys(unknown) {
		r.fail(fmt.Sprintf("Add clusterID %s to ceph.clusters in the chart's values; if it is a cluster that is listed under another clusterID, list it under this one too.", id),
			"No Ceph cluster with clusterID %s is configured, and these PersistentVolumes name it: %s. They would be refused (UnknownCluster).", id, some(unknown[id]))
	}
	return fmt.Sprintf("The Ceph cluster of every RBD PersistentVolume is configured (%d).", known)
}

// caps is the command that gives the cluster's user all that it needs; `ceph auth caps` replaces what was there.
func (c Cluster) caps() string {
	word := "osd " + c.Rights.Word
	if c.Rights.Word == "" {
		word = "osd blocklist"
	}
	var pools []string
	for _, p := range c.Pools {
		if !slices.Contains(pools, p.Pool) {
			pools = append(pools, p.Pool)
		}
	}
	if len(pools) == 0 {
		pools = []string{"POOL"}
	}
	var grants []string
	for _, pool := range pools {
		grants = append(grants, grantsFor(pool))
	}
	return fmt.Sprintf(`Run: ceph auth caps client.%s mon 'allow r, allow command "%s"' osd '%s'. Then restart the remediator.`, c.User, word, strings.Join(grants, ", "))
}

// grantsFor are the README's OSD caps for a pool: to read, and to take snapshots and keep manifests.
func grantsFor(pool string) string {
	return fmt.Sprintf("profile rbd-read-only pool=%[1]s, allow rwx pool=%[1]s object_prefix rbd_header., allow rwx pool=%[1]s object_prefix rbd_object_map.", pool)
}

func denied(err error) bool { return errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) }

// lie is what lies in a pool, with its verb.
func lie(volumes int) string {
	if volumes == 1 {
		return "1 PersistentVolume lies"
	}
	return fmt.Sprintf("%d PersistentVolumes lie", volumes)
}

func poolName(p ceph.PoolRef) string {
	if p.Namespace == "" {
		return p.Pool
	}
	return p.Pool + "/" + p.Namespace
}

func upper(sentence string) string { return strings.ToUpper(sentence[:1]) + sentence[1:] }
