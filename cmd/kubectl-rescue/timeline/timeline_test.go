package timeline

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rbd-rescue/rbd-rescue/api/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files")

var start = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

func at(seconds float64) *metav1.MicroTime {
	return new(metav1.NewMicroTime(start.Add(time.Duration(seconds * float64(time.Second)))))
}

// recovered has moved one volume and refused another, whose claim has a name that no API would let through.
func recovered() *v1alpha1.NodeFence {
	return &v1alpha1.NodeFence{
		ObjectMeta: metav1.ObjectMeta{Name: "node-a-1", CreationTimestamp: metav1.NewTime(start.Add(52 * time.Second))},
		Spec:       v1alpha1.NodeFenceSpec{NodeName: "node-a", BootID: "boot-1"},
		Status: v1alpha1.NodeFenceStatus{
			Phase: v1alpha1.PhaseRecovered, Message: "1 of 2 volumes run elsewhere",
			Times: v1alpha1.IncidentTimes{NotReadyAt: at(0), DetectedAt: at(52.1), FencingAt: at(52.1), FencedAt: at(52.6), RecoveredAt: at(58)},
			Volumes: []v1alpha1.FencedVolume{
				{
					Claim: "shop/data", Phase: v1alpha1.VolumeRecovered, RecoveredOn: "node-b",
					DemandedAt: at(50), ReleasingAt: at(52.6), ReleasedAt: at(53.2), AttachedAt: at(54), RecoveredAt: at(58),
				},
				{Claim: `shop/<b>&"x`, Phase: v1alpha1.VolumeRefused, Reason: v1alpha1.ReasonBarePod, DemandedAt: at(50)},
			},
		},
	}
}

func lifted() *v1alpha1.NodeFence {
	nf := recovered()
	nf.Status.Phase, nf.Status.Message = v1alpha1.PhaseLifted, "Lifted"
	nf.Status.Times.OverAt, nf.Status.Times.LiftedAt = at(7200), at(7260)
	return nf
}

func underWay() *v1alpha1.NodeFence {
	nf := recovered()
	nf.Status.Phase, nf.Status.Times.RecoveredAt = v1alpha1.PhaseReleasing, nil
	v := &nf.Status.Volumes[0]
	v.Phase, v.RecoveredOn, v.ReleasedAt, v.AttachedAt, v.RecoveredAt = v1alpha1.VolumeReleasing, "", nil, nil, nil
	return nf
}

var events = []eventsv1.Event{
	{
		Reason: v1alpha1.ReasonVolumeHeld, EventTime: *at(51), Note: "Pod shop/db-0 waits for claim shop/data, held by node node-a",
		Regarding: corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "db-0"},
	},
	{
		Reason: v1alpha1.ReasonVolumeHeld, EventTime: *at(51), Note: "held by node node-abc",
		Regarding: corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "of-another-node"},
	},
	{
		Reason: v1alpha1.ReasonPodForceDeleted, EventTime: *at(52.7),
		Regarding: corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "db-0"}, Related: &corev1.ObjectReference{Kind: "NodeFence", Name: "node-a-1"},
	},
	{
		Reason: v1alpha1.ReasonPodForceDeleted, EventTime: *at(52.7),
		Regarding: corev1.ObjectReference{Kind: "NodeFence", Name: "node-a-1"}, Related: &corev1.ObjectReference{Kind: "Pod", Name: "db-0"},
	},
}

func TestTimelineLooksAsItDid(t *testing.T) {
	t.Parallel()
	now := start.Add(70 * time.Second)
	for name, incident := range map[string]*v1alpha1.NodeFence{
		"recovered": recovered(), "lifted": lifted(), "under-way": underWay(),
		"just-made": {ObjectMeta: metav1.ObjectMeta{Name: "node-a-1", CreationTimestamp: metav1.NewTime(start)}, Spec: v1alpha1.NodeFenceSpec{NodeName: "node-a"}},
	} {
		line := Of(incident, events, now)
		for ending, write := range map[string]func(io.Writer) error{"txt": line.Text, "svg": line.SVG, "html": line.HTML} {
			var got strings.Builder
			if err := write(&got); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+"."+ending)
			if *update {
				if err := os.WriteFile(path, []byte(got.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("%s is not as it was (see the difference after go test ./cmd/kubectl-rescue/timeline -update):\n%s", path, got.String())
			}
			if ending == "svg" {
				wellFormed(t, path, got.String())
			}
		}
	}
}

// wellFormed reads a picture as XML, and finds the claim's name in it as text.
func wellFormed(t *testing.T, name, picture string) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(picture))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if element, is := token.(xml.StartElement); is && element.Name.Local == "b" {
			t.Errorf("%s: the name of a claim has become an element", name)
		}
	}
}
