package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// Severity of a Finding.
type Severity string

// What a Finding may be.
const (
	// OK: looked at, and as it should be.
	OK Severity = "ok"
	// Warning: a rescue may be refused or slow, or it could not be looked at.
	Warning Severity = "warning"
	// Error: some rescue will fail or be refused until this is mended.
	Error Severity = "error"
)

// Finding is what one check says of one thing.
type Finding struct {
	// Check is the name of the check, as in docs/doctor.md.
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	// Message says what is so, and where.
	Message string `json:"message"`
	// Remedy is the next step; empty where there is nothing to do.
	Remedy string `json:"remedy,omitempty"`
}

// The names of the checks, in the order in which they are told.
const (
	CheckCeph         = "ceph"
	CheckCephCaps     = "ceph-caps"
	CheckPools        = "pools"
	CheckSnapshots    = "snapshots"
	CheckClusterIDs   = "cluster-ids"
	CheckVolumes      = "volumes"
	CheckRecords      = "records"
	CheckAddresses    = "addresses"
	CheckClocks       = "clocks"
	CheckCaches       = "caches"
	CheckRemediator   = "remediator"
	CheckReplicas     = "replicas"
	CheckVersions     = "versions"
	CheckCRD          = "crd"
	CheckPolicies     = "policies"
	CheckWebhook      = "webhook"
	CheckCertificates = "certificates"
	CheckNamespaces   = "namespaces"
	CheckPauses       = "pauses"
	CheckOtherActors  = "other-actors"
)

// Checks are all names, in the order in which they are told.
var Checks = []string{
	CheckCeph, CheckCephCaps, CheckPools, CheckSnapshots, CheckClusterIDs, CheckVolumes, CheckRecords, CheckAddresses, CheckClocks, CheckCaches,
	CheckRemediator, CheckReplicas, CheckVersions, CheckCRD, CheckPolicies, CheckWebhook, CheckCertificates, CheckNamespaces,
	CheckPauses, CheckOtherActors,
}

// Sort brings findings into the order of Checks, the worst of each first.
func Sort(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		if a.Check != b.Check {
			return slices.Index(Checks, a.Check) - slices.Index(Checks, b.Check)
		}
		return b.Severity.rank() - a.Severity.rank()
	})
}

func (s Severity) rank() int { return slices.Index([]Severity{OK, Warning, Error}, s) }

// Failed tells whether one of the findings is an Error.
func Failed(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// report collects what one check finds.
type report struct {
	check string
	found []Finding
}

func (r *report) warn(remedy, format string, args ...any) { r.add(Warning, remedy, format, args...) }

func (r *report) fail(remedy, format string, args ...any) { r.add(Error, remedy, format, args...) }

func (r *report) add(severity Severity, remedy, format string, args ...any) {
	r.found = append(r.found, Finding{Check: r.check, Severity: severity, Message: fmt.Sprintf(format, args...), Remedy: remedy})
}

// Unread says by check why its facts, or some of them, could not be read.
type Unread map[string]error

// look is one check of facts F: it reports what is wrong, and returns what is so where nothing is.
type look[F any] struct {
	check string
	find  func(F, *report) (fine string)
}

func findings[F any](facts F, unread Unread, looks []look[F]) []Finding {
	var all []Finding
	for _, look := range looks {
		r := report{check: look.check}
		if err := unread[look.check]; err != nil {
			r.warn("Mend that, or ask somebody who may, and run doctor again.", "This could not be looked at: %v.", err)
		} else if fine := look.find(facts, &r); len(r.found) == 0 && fine != "" {
			r.add(OK, "", "%s", fine)
		}
		all = append(all, r.found...)
	}
	Sort(all)
	return all
}

// some names the first of many, and how many there are.
func some(names []string) string {
	const most = 3
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
