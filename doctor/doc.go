// Package doctor says what would keep a rescue from succeeding, before the first outage. It takes facts and gives findings, each
// with its remedy; it reads and writes nothing itself. doctor/look gathers the facts: Inside in the remediator's pod, with its
// rights and its way to Ceph; Outside with the rights of the person who asks.
package doctor
