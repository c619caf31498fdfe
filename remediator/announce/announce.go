// Package announce tells users what happens, as Kubernetes events (events.k8s.io). It drops repeats: the same fact about
// the same object is told once, however often it is decided.
package announce

import (
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"

	"github.com/rbd-rescue/rbd-rescue/remediator/plan"
)

// repeatAfter is when a fact that still holds is told again: before the API server forgets its event (1 h by default).
const repeatAfter = 50 * time.Minute

// Announcer writes events.
type Announcer struct {
	recorder events.EventRecorder
	clock    clock.PassiveClock

	lock sync.Mutex
	told map[fact]time.Time
}

// fact is what makes two events the same: wording that changes with time does not make a new one.
type fact struct {
	object, related corev1.ObjectReference // related: a node's second incident is news, though nothing else in it is
	reason, note    string
}

// New gives an Announcer that writes through a recorder.
func New(recorder events.EventRecorder, clock clock.PassiveClock) *Announcer {
	return &Announcer{recorder: recorder, clock: clock, told: map[fact]time.Time{}}
}

// Announce writes events.
func (a *Announcer) Announce(list ...plan.Event) {
	for _, event := range list {
		if !a.first(event) {
			continue
		}
		regarding, related, note := event.Regarding, event.Related, shorten(event.Note)
		if related == (corev1.ObjectReference{}) {
			a.recorder.Eventf(&regarding, nil, event.Type, event.Reason, event.Action, "%s", note)
			continue
		}
		a.recorder.Eventf(&regarding, &related, event.Type, event.Reason, event.Action, "%s", note)
	}
}

// maxNote is what events.k8s.io takes, in bytes (k8s.io/api/events/v1, Event.note: less than 1 kB).
const maxNote = 1000

// shorten cuts a note that the API server would refuse, and never within a character.
func shorten(note string) string {
	if len(note) <= maxNote {
		return note
	}
	return strings.ToValidUTF8(note[:maxNote-len("…")], "") + "…"
}

func (a *Announcer) first(event plan.Event) bool {
	a.lock.Lock()
	defer a.lock.Unlock()
	now := a.clock.Now()
	for f, at := range a.told {
		if now.Sub(at) > repeatAfter {
			delete(a.told, f)
		}
	}
	f := fact{event.Regarding, event.Related, event.Reason, event.Note}
	if _, told := a.told[f]; told {
		return false
	}
	a.told[f] = now
	return true
}
