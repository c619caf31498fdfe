package doctor

import "fmt"

// Told is what `rbd-rescue doctor -o json` tells whoever runs it in the remediator's pod.
type Told struct {
	Findings []Finding `json:"findings"`
	// Webhook is what was served at the address that was asked for.
	Webhook *Served `json:"webhook,omitempty"`
}

// Served is what a webhook's TLS endpoint serves.
type Served struct {
	// Certificates in PEM, the webhook's own first.
	Certificates string `json:"certificates,omitempty"`
	// Error says why there are none.
	Error string `json:"error,omitempty"`
}

// NotInside is what is told where nobody could look from the remediator's pod: it may well be that no rescue would succeed.
func NotInside(err error) Finding {
	return Finding{
		Check: CheckCeph, Severity: Error, Message: fmt.Sprintf("Ceph, records, clocks and caches could not be looked at from the remediator's pod: %v.", err),
		Remedy: "It takes a pod of the remediator that is ready, and the right to create pods/exec in its namespace; or say how to run rbd-rescue here with --rescue-command.",
	}
}
