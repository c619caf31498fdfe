package node

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func (m *machine) releaser(out io.Writer) Releaser {
	return Releaser{Host: m.hostOf(), Kernel: m, Out: out, Pause: time.Millisecond}
}

var inOrder = []string{"stop db-0", "unmount mount", "cover mount", "unmount globalmount", "unmap 0"}

func TestAMappingIsLetGoFromTheTopDown(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	var out strings.Builder
	if err := m.releaser(&out).Release(t.Context(), Selection{Pod: "shop/db-0"}.Of); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(inOrder, m.done); diff != "" {
		t.Error(diff)
	}
	if left := m.survey().Mappings; len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, line := range []string{"stop pod shop/db-0", "unmount " + podMount, "unmap /dev/rbd0 (image rbd/db)"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("it does not tell %q:\n%s", line, out.String())
		}
	}
	if err := m.releaser(io.Discard).Release(t.Context(), Selection{All: true}.Of); err != nil || len(m.done) != len(inOrder) {
		t.Errorf("once more: %v, %v", err, m.done)
	}
}

func TestADryRunDoesNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	var out strings.Builder
	if err := m.releaser(&out).DryRun(t.Context(), Selection{All: true}.Of); err != nil || len(m.done) > 0 {
		t.Fatalf("%v, %v", err, m.done)
	}
	if !strings.Contains(out.String(), "would unmap /dev/rbd0") {
		t.Error(out.String())
	}
}

// A kubelet that is cut off starts containers again; a CSI plugin unmaps at the same moment.
func TestItIsLookedAtAgainAfterWhatOthersDo(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]map[string]error{
		"the device is busy for a moment":     {"unmap 0": unix.EBUSY},
		"somebody else is unmapping it":       {"unmap 0": unix.EINPROGRESS},
		"the mount point is busy":             {"unmount globalmount": unix.EBUSY},
		"the mount point is unmounted by now": {"unmount mount": unix.EINVAL},
		"the device was unmapped meanwhile":   {"unmap 0": unix.ENOENT},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.fails = fails
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := m.releaser(io.Discard).Release(ctx, Selection{Device: "rbd0"}.Of); err != nil {
				t.Fatal(err)
			}
			if left := m.survey().Mappings; len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestWhatFailsIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fails string
		done  []string
	}{
		"the pod cannot be stopped": {"stop db-0", inOrder[:1]},
		"an unmount hangs":          {"unmount mount", inOrder[:2]},
		"the unmap hangs":           {"unmap 0", inOrder},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			broken := errors.New("it hangs in the kernel")
			m.fails = map[string]error{test.fails: broken}
			err := m.releaser(io.Discard).Release(t.Context(), Selection{Image: "rbd/db"}.Of)
			if !errors.Is(err, broken) || !slices.Equal(m.done, test.done) {
				t.Errorf("%v, %v", err, m.done)
			}
		})
	}
}

// A kubelet that is cut off from the API starts what was stopped again, from the mount that is left.
func TestAPodThatIsStartedAgainIsStoppedAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	running := m.pods[podUID]
	m.afterStop = func() {
		m.afterStop = nil
		m.pods[podUID], m.container = running, []string{mountLine("252:0", "/data")}
	}
	if err := m.releaser(io.Discard).Release(t.Context(), Selection{All: true}.Of); err != nil {
		t.Fatal(err)
	}
	if want := append(slices.Clone(inOrder), "stop db-0", "unmap 0"); !slices.Equal(m.done, want) {
		t.Errorf("%v", m.done)
	}
}

func TestItGivesUpInTime(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.container = append(m.container, mountLine("252:0", "/other"))
	m.pods[podUID] = Pod{UID: podUID, Namespace: "shop", Name: "db-0"} // nothing of the pod runs, and yet somebody has it mounted
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var out strings.Builder
	err := m.releaser(&out).Release(ctx, Selection{All: true}.Of)
	if n := strings.Count(out.String(), "unmap /dev/rbd0"); n != 1 {
		t.Errorf("a step that was tried again and again is told %d times", n)
	}
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "process 77 (postgres)") {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNotKubernetesIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change    func(*machine)
		selection Selection
		want      string
	}{
		"a mount of the system's": {func(m *machine) { m.host = append(m.host, mountLine("252:0", "/var/lib/mysql")) }, Selection{Device: "rbd0"}, "mounted at /var/lib/mysql"},
		"a volume group": {func(m *machine) {
			m.write("sys/block/rbd0/holders/dm-1/x", "")
			m.write("sys/block/dm-1/dev", "253:1\n")
			m.write("sys/block/dm-1/dm/name", "vg-data\n")
			m.write("sys/block/dm-1/dm/uuid", "LVM-abc\n")
			m.write("sys/block/dm-1/holders/dm-9/x", "")
			m.write("sys/block/dm-9/dev", "253:9\n")
			m.write("sys/block/dm-9/holders/x", "")
			m.remove("sys/block/dm-9/holders/x")
		}, Selection{All: true}, "vg-data"},
		"swap":                           {func(m *machine) { m.write("proc/swaps", "Filename Type\n/dev/rbd0 partition 1 0 -2\n") }, Selection{All: true}, "swapoff"},
		"a container that nothing names": {func(m *machine) { m.host = nil }, Selection{Device: "/dev/rbd0"}, "process 77 (postgres) has it mounted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			test.change(m)
			m.writeMounts()
			err := m.releaser(io.Discard).Release(t.Context(), test.selection.Of)
			if err == nil || !strings.Contains(err.Error(), test.want) || len(m.done) > 0 {
				t.Errorf("%v, %v", err, m.done)
			}
			if dry := m.releaser(io.Discard).DryRun(t.Context(), test.selection.Of); dry == nil || dry.Error() != err.Error() {
				t.Errorf("a dry run says %v", dry)
			}
		})
	}
	t.Run("without a runtime", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t)
		r := m.releaser(io.Discard)
		r.Host.Runtime, r.Host.RuntimeError = nil, errNoRuntime
		if err := r.Release(t.Context(), Selection{All: true}.Of); err == nil || !strings.Contains(err.Error(), "--cri-socket") || len(m.done) > 0 {
			t.Errorf("%v, %v", err, m.done)
		}
	})
}

func TestWhatAnEarlierReleaseHasUnmountedIsNotTakenForNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, selection := range []Selection{{Pod: "shop/db-0"}, {Pod: "shop/other"}, {All: true}} {
		if err := selection.Unclaimed(m.survey()); err != nil {
			t.Errorf("while it is mounted, %+v: %v", selection, err)
		}
	}
	m.host, m.container = nil, nil
	m.writeMounts()
	for _, selection := range []Selection{{Pod: "shop/db-0"}, {All: true}} {
		if err := selection.Unclaimed(m.survey()); err == nil || !strings.Contains(err.Error(), "/dev/rbd0 (image rbd/db") {
			t.Errorf("%+v: %v", selection, err)
		}
	}
	if err := (Selection{Image: "rbd/db"}).Unclaimed(m.survey()); err != nil {
		t.Errorf("by its name: %v", err)
	}
	beside := Survey{Mappings: []Mapping{
		{Device: "/dev/rbd0", Mounts: []Mount{{Path: "/var/lib/kubelet/x", Place: Place{Kind: PlacePod}}}}, {Device: "/dev/rbd1"},
		{Device: "/dev/rbd2", Swap: true}, {Device: "/dev/rbd3", Layers: []Layer{{Kind: LayerOther}}},
	}}
	err := Selection{All: true}.Unclaimed(beside)
	if err == nil || !strings.Contains(err.Error(), "/dev/rbd1") || strings.Contains(err.Error(), "/dev/rbd0") || strings.Contains(err.Error(), "/dev/rbd2") ||
		strings.Contains(err.Error(), "/dev/rbd3") {
		t.Errorf("beside others: %v", err)
	}
}

// After an unmount nothing says any more that a mapping is Kubernetes': all does not mean it, its name does.
func TestAMappingThatNothingUsesIsLetGoByName(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.host, m.container = nil, nil
	m.writeMounts()
	if err := m.releaser(io.Discard).Release(t.Context(), Selection{All: true}.Of); err != nil || len(m.done) > 0 {
		t.Fatalf("%v, %v", err, m.done)
	}
	if err := m.releaser(io.Discard).Release(t.Context(), Selection{Image: "rbd/db"}.Of); err != nil || !slices.Equal(m.done, []string{"unmap 0"}) {
		t.Errorf("%v, %v", err, m.done)
	}
}

func TestOneThingIsSelected(t *testing.T) {
	t.Parallel()
	for _, s := range []Selection{{}, {All: true, Pod: "a/b"}, {Device: "rbd0", Image: "a/b"}} {
		if s.Validate() == nil {
			t.Errorf("%+v", s)
		}
	}
}
