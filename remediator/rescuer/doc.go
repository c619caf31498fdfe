// Package rescuer drives NodeFences: observe, decide (plan.Next), store the status, announce, carry out the steps. It is
// the only package that fences, releases and lifts; execute.go holds everything that it writes.
package rescuer
