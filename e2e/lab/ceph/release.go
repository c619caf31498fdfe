package ceph

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Release is a release of Ceph that a suite of Debian has.
type Release struct {
	// Version as in "14.2".
	Version string
	// Suite of Debian that has it; empty for the host's own.
	Suite string
	// Word of this release for the blocklist.
	Word string
}

// Releases are those that the lab can start: the oldest that rbd-rescue knows, the lab's own, and a newer one.
var Releases = []Release{
	{Version: "14.2", Suite: "bullseye", Word: "blacklist"},
	{Version: "16.2", Word: "blocklist"},
	{Version: "18.2", Suite: "trixie", Word: "blocklist"},
}

// Installed is the release that the host has.
func Installed() Release {
	return Releases[slices.IndexFunc(Releases, func(r Release) bool { return r.Suite == "" })]
}

// Usr is what Options need, where bin is e2e/bin. The error says that e2e/fetch-ceph has not got the release.
func (r Release) Usr(bin string) (string, error) {
	if r.Suite == "" {
		return "", nil
	}
	usr, err := filepath.Abs(filepath.Join(bin, "ceph-"+r.Suite, "usr"))
	if err == nil {
		_, err = os.Stat(filepath.Join(usr, "bin", "ceph-mon"))
	}
	if err != nil {
		return "", fmt.Errorf("there is no Ceph %s, which e2e/fetch-ceph %s gets: %w", r.Version, r.Suite, err)
	}
	return usr, nil
}

// LeastRights are the caps that rbd-rescue needs, as its README has them, for images in these pools.
func (r Release) LeastRights(pools ...string) map[string]string {
	rights := r.RightsWithoutSnapshots(pools...)
	rights["osd"] = forEachPool(pools, func(pool string) string {
		return fmt.Sprintf("profile rbd-read-only pool=%[1]s, allow rwx pool=%[1]s object_prefix rbd_header., allow rwx pool=%[1]s object_prefix rbd_object_map.", pool)
	})
	return rights
}

// RightsWithoutSnapshots are the caps of a user that is to do everything but take snapshots.
func (r Release) RightsWithoutSnapshots(pools ...string) map[string]string {
	return map[string]string{
		"mon": fmt.Sprintf("allow r, allow command %q", "osd "+r.Word),
		"osd": forEachPool(pools, func(pool string) string { return "profile rbd-read-only pool=" + pool }),
	}
}

func forEachPool(pools []string, rights func(pool string) string) string {
	var all []string
	for _, pool := range pools {
		all = append(all, rights(pool))
	}
	return strings.Join(all, ", ")
}
