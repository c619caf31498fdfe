// Package process starts the lab's daemons and ends them: each in a process group of its own, with its log and its pid on disk, and
// killed by the kernel if the lab itself dies. It never signals a process that it did not start: what an interrupted run left behind is
// known by pid and start time, never by name.
package process
