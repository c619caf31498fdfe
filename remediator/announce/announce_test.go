package announce

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

func TestAFactIsToldOnceUntilItsEventIsForgotten(t *testing.T) {
	t.Parallel()
	recorder := events.NewFakeRecorder(10)
	clock := clocktesting.NewFakePassiveClock(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC))
	a := New(recorder, clock)
	event := plan.Event{
		Regarding: corev1.ObjectReference{Kind: "Node", Name: "node-a"},
		Related:   corev1.ObjectReference{Kind: "NodeFence", Name: "nf"},
		Type:      corev1.EventTypeNormal, Reason: "NodeFenced", Action: "Fence", Note: "100 % fenced",
	}
	other, next := event, event
	other.Regarding.Name = "node-b"
	next.Related.Name = "nf-2"

	a.Announce(event, other, next)
	a.Announce(event)
	if got := len(recorder.Events); got != 3 {
		t.Errorf("told %d times, want once for each object, and for each incident", got)
	}
	<-recorder.Events
	if text := <-recorder.Events; text != "Normal NodeFenced 100 % fenced" {
		t.Errorf("told %q", text) // the note is no format string
	}
	if long := shorten(strings.Repeat("é", 600)); len(long) > 1023 || !utf8.ValidString(long) {
		t.Errorf("a long note is cut to %d bytes: %q", len(long), long)
	}
	clock.SetTime(clock.Now().Add(repeatAfter + time.Second))
	a.Announce(event)
	if got := len(recorder.Events); got != 2 {
		t.Errorf("a fact that still holds is not told again")
	}
}
