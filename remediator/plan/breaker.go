package plan

// maxFailedShare of all nodes, in percent, may fail before the breaker opens; one node always may.
const maxFailedShare = 34

// BreakerOpen tells whether so many nodes failed at once that it looks like a fault of the network or of the control
// plane, not like that many dead machines (S7). Nothing new is fenced then; what was begun is finished.
func BreakerOpen(h Health) bool {
	return h.Failed > max(1, h.Nodes*maxFailedShare/100)
}
