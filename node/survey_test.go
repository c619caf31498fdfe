package node

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestASurveyTellsWhoUsesAMapping(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	want := Mapping{
		ID: 0, Device: "/dev/rbd0", Pool: "rbd", Image: "db", Snapshot: "-", Client: "10.0.0.1:0/42",
		Layers: []Layer{{Name: "rbd0", Kind: LayerImage, Number: "252:0"}},
		Mounts: []Mount{
			{Path: hashMount, Place: Place{Kind: PlaceStaging, Volume: "pv-db"}},
			{Path: podMount, Place: Place{Kind: PlacePod, Volume: "pv-db", Pod: podUID}},
		},
		Elsewhere: []Process{{77, "postgres"}},
		Pods:      []Pod{m.pods[podUID]},
	}
	s := m.survey()
	if diff := cmp.Diff(Survey{BootID: bootID, Mappings: []Mapping{want}, KubeletRuns: true}, s); diff != "" {
		t.Error(diff)
	}
	var table, text bytes.Buffer
	if err := errors.Join(WriteTable(&table, s), WriteJSON(&text, s)); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"/dev/rbd0", "rbd/db", "10.0.0.1:0/42", podMount, "shop/db-0", "postgres"} {
		if !strings.Contains(table.String(), part) {
			t.Errorf("the table has no %s:\n%s", part, table.String())
		}
	}
	if !strings.Contains(text.String(), `"image": "db"`) {
		t.Errorf("the JSON is %s", text.String())
	}
}

func TestASurveySeesWhatLiesBetweenImageAndPod(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	const publish = "/var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices/publish/pv-db/" + podUID
	const own = "/var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices/pv-db/dev/" + podUID
	m.write("sys/block/rbd0/rbd0p1/partition", "1\n")
	m.write("sys/block/rbd0/rbd0p1/dev", "252:1\n")
	m.write("sys/block/rbd0/rbd0p1/holders/dm-3/x", "")
	m.write("sys/block/dm-3/dev", "253:3\n")
	m.write("sys/block/dm-3/dm/name", "luks-rbd-crypt-db\n")
	m.write("sys/block/dm-3/dm/uuid", "CRYPT-LUKS2-abc\n")
	m.write("sys/block/dm-3/holders/.keep/x", "")
	if err := os.RemoveAll(m.path("sys/block/dm-3/holders/.keep")); err != nil {
		t.Fatal(err)
	}
	m.write("sys/block/loop4/loop/backing_file", own+"\n")
	m.write("sys/block/loop4/dev", "7:4\n")
	m.host = []string{
		"101 28 253:3 / " + hashMount + " rw shared:9 - ext4 /dev/mapper/luks-rbd-crypt-db rw",
		"102 28 0:6 /rbd0 " + publish + " rw shared:9 - devtmpfs udev rw",
		"103 28 0:6 /rbd0 " + own + " rw shared:9 - devtmpfs udev rw",
		"104 28 0:6 /rbd1 /elsewhere rw shared:9 - devtmpfs udev rw",
		`105 28 0:44 / /var/lib/kubelet/pods/` + podUID + `/volume-subpaths/pv-db/postgres/0\040x rw - btrfs /dev/rbd0 rw`,
	}
	m.writeMounts()
	mapping := m.survey().Mappings[0]
	wantLayers := []Layer{
		{Name: "rbd0", Kind: LayerImage, Number: "252:0"},
		{Name: "rbd0p1", Kind: LayerPartition, Number: "252:1"},
		{Name: "dm-3", Kind: LayerCrypt, Number: "253:3", Mapper: "luks-rbd-crypt-db"},
		{Name: "loop4", Kind: LayerLoop, Number: "7:4"},
	}
	if diff := cmp.Diff(wantLayers, mapping.Layers); diff != "" {
		t.Error(diff)
	}
	wantMounts := []Mount{
		{Path: hashMount, Place: Place{Kind: PlaceStaging, Volume: "pv-db"}},
		{Path: publish, Device: true, Place: Place{Kind: PlacePod, Volume: "pv-db", Pod: podUID}},
		{Path: own, Device: true, Place: Place{Kind: PlacePod, Volume: "pv-db", Pod: podUID}},
		{
			Path:  "/var/lib/kubelet/pods/" + podUID + "/volume-subpaths/pv-db/postgres/0 x",
			Place: Place{Kind: PlaceSubpath, Volume: "pv-db", Pod: podUID},
		},
	}
	if diff := cmp.Diff(wantMounts, mapping.Mounts); diff != "" {
		t.Error(diff)
	}
}

// What goes with the host's mount is no user of its own: a CSI plugin's container sees all of the kubelet's folder.
func TestAMountThatFollowsTheHostsIsNoUser(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("proc/77/mountinfo", strings.ReplaceAll(mountLine("252:0", podMount), "shared:9", "master:9")+"\n")
	if got := m.survey().Mappings[0].Elsewhere; len(got) > 0 {
		t.Errorf("users are %v", got)
	}
}

func TestS3WhatCannotBeReadIsNeverNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(*machine, *Host)
		want  string
	}{
		"a folder that is no sysfs":          {func(_ *machine, h *Host) { h.checkSysfs = nil }, "is no sysfs"},
		"a folder that is not there":         {func(_ *machine, h *Host) { h.checkSysfs, h.Sys = nil, "/not/there" }, "no such file"},
		"a sysfs without the RBD bus":        {func(m *machine, _ *Host) { m.remove("sys/bus/rbd") }, "no RBD bus"},
		"a bus without its devices":          {func(m *machine, _ *Host) { m.remove("sys/bus/rbd/devices") }, "listing the mapped images"},
		"a mapping without a client":         {func(m *machine, _ *Host) { m.remove("sys/bus/rbd/devices/0/client_addr") }, "client_addr"},
		"a mapping without its block device": {func(m *machine, _ *Host) { m.remove("sys/block/rbd0") }, "rbd0"},
		"a container's own processes":        {func(m *machine, _ *Host) { m.write("proc/2/comm", "agent\n") }, "hostPID"},
		"mounts that mean nothing":           {func(m *machine, _ *Host) { m.write("proc/1/mountinfo", "x\n") }, "no line of mountinfo"},
		"no bootID":                          {func(m *machine, _ *Host) { m.remove("proc/sys") }, "bootID"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			h := m.hostOf()
			test.spoil(m, &h)
			s, err := h.Survey(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) || s.Mappings != nil {
				t.Errorf("%v, %+v", err, s)
			}
		})
	}
}

func (m *machine) remove(name string) {
	m.t.Helper()
	if err := os.RemoveAll(m.path(name)); err != nil {
		m.t.Fatal(err)
	}
}

func TestAKubeletsFolderBehindALinkIsFound(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("proc/1/root/data/kubelet/x", "")
	m.link("proc/1/root/srv-kubelet", m.path("proc/1/root/data/kubelet"))
	h := m.hostOf()
	h.KubeletDir = "/srv-kubelet"
	if got, err := h.kubeletDir(); err != nil || got != "/data/kubelet" {
		t.Errorf("%s, %v", got, err)
	}
}
