package doctor

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
