package ceph

import (
	"fmt"
	"os"
	"path/filepath"
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
	var osd []string
	for _, pool := range pools {
		osd = append(osd, "profile rbd-read-only pool="+pool, fmt.Sprintf("allow class rbd metadata_set pool=%s object_prefix rbd_header.", pool))
	}
	return map[string]string{"mon": fmt.Sprintf("allow r, allow command %q", "osd "+r.Word), "osd": strings.Join(osd, ", ")}
}
