package doctor

import (
	"fmt"
	"time"
)

const (
	// A clock that is off by more makes the story hard to read; a measurement takes a second or two.
	skewWarned = 5 * time.Second
	// From a minute on, "back for less than a minute" (S7) and "asked for a minute ago" mean nothing any more.
	skewRefused = time.Minute
	// A manager of Ceph writes to the log every two seconds, one that is busy less often.
	logSilent = 15 * time.Second
)

// clocks: the remediator's clock against those of Kubernetes and Ceph. End and age of everything are compared between them.
func clocks(f Inside, r *report) string {
	var worst time.Duration
	compare := func(whose string, ours, theirs time.Time) {
		if theirs.IsZero() {
			r.warn("See `ceph time-sync-status`, and compare by hand.", "%s did not tell its time: its clock could not be compared.", upper(whose))
			return
		}
		skew := ours.Sub(theirs).Abs()
		worst = max(worst, skew)
		remedy := "Have chrony or another NTP client keep the clocks of all hosts."
		switch {
		case skew >= skewRefused:
			r.fail(remedy, "The remediator's clock and that of %s are %s apart: what has just happened seems long past, or yet to come.", whose, skew.Round(time.Second))
		case skew > skewWarned:
			r.warn(remedy, "The remediator's clock and that of %s are %s apart.", whose, skew.Round(time.Second))
		}
	}
	compare("the Kubernetes API server", f.Now, f.APITime)
	for _, c := range f.Clusters {
		whose := "Ceph cluster " + c.ID
		age := c.Now.Sub(c.Time)
		switch {
		case c.Unreachable != nil:
		case c.Time.IsZero() || age < skewWarned:
			compare(whose, c.Now, c.Time)
		case age > logSilent:
			r.warn("See `ceph -s` for its managers, and have chrony or another NTP client keep the clocks of all hosts.",
				"The newest entry in the log of %s is %s old: its clock is behind the remediator's, or its managers are silent.", whose, age.Round(time.Second))
		}
	}
	return fmt.Sprintf("The clocks of Kubernetes and Ceph are less than %s from the remediator's.", worst.Truncate(time.Second)+time.Second)
}

// caches: the remediator has been told of what the API shows.
func caches(f Inside, r *report) string {
	for _, c := range f.Caches {
		if c.Cached < c.Live {
			r.fail(fmt.Sprintf("See whether its watches fail: kubectl -n %s logs deployment/rbd-rescue-remediator --all-pods; then restart it: kubectl -n %s rollout restart deployment rbd-rescue-remediator.",
				f.Namespace, f.Namespace),
				"The remediator's cache of %s is behind: after %s it had heard of changes up to %d, and the API has %d; it would see a failure late.", c.Kind, c.Waited, c.Cached, c.Live)
		}
	}
	return fmt.Sprintf("The remediator has heard of the newest change of each of the %d kinds that it watches.", len(f.Caches))
}
