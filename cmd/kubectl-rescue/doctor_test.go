package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
	"github.com/rbd-rescue/rbd-rescue/cmd/kubectl-rescue/remote"
	"github.com/rbd-rescue/rbd-rescue/doctor"
)

// inPod answers as a command in the remediator's pod does.
type inPod struct {
	out string
	err error
}

func (p inPod) Run(_ context.Context, streams remote.Streams, _ ...string) error {
	if _, err := io.WriteString(streams.Out, p.out); err != nil {
		return err
	}
	return p.err
}

func TestDoctorTakesOverWhatThePodTellsAndNothingThatItDoesNot(t *testing.T) {
	t.Parallel()
	const found = `{"findings":[{"check":"ceph","severity":"error","message":"It does not answer.","remedy":"See."}],"webhook":{"error":"refused"}}`
	for name, test := range map[string]struct {
		pod  inPod
		want string
	}{
		"it found nothing wrong":            {inPod{out: `{"findings":[{"check":"ceph","severity":"ok","message":"Ceph answers."}]}`}, "ok ceph: Ceph answers."},
		"it found something":                {inPod{found, exit.Coded(exit.Failed)}, "error ceph: It does not answer."},
		"it could not look":                 {inPod{"", exit.Coded(exit.Failed)}, "error ceph: Ceph, records, clocks and caches could not be looked at from the remediator's pod: ended with code 1."},
		"it is of a version without doctor": {inPod{"", exit.Coded(exit.Misused)}, "error ceph: Ceph, records, clocks and caches could not be looked at from the remediator's pod: ended with code 2."},
		"the connection broke off":          {inPod{found, remote.ErrInDoubt}, "error ceph: Ceph, records, clocks and caches could not be looked at from the remediator's pod: " + remote.ErrInDoubt.Error() + "."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &plugin{IOStreams: genericiooptions.IOStreams{Out: io.Discard, ErrOut: io.Discard}}
			var webhook doctor.Webhook
			var told []string
			for _, f := range p.inside(t.Context(), test.pod, &webhook) {
				told = append(told, fmt.Sprintf("%s %s: %s", f.Severity, f.Check, f.Message))
			}
			if got := strings.Join(told, "\n"); got != test.want {
				t.Errorf("told %q, want %q", got, test.want)
			}
			if strings.Contains(test.want, "not answer") && webhook.ServedError != "refused" {
				t.Errorf("of the webhook it took over %+v", webhook)
			}
		})
	}
}
