package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheLastResultOfADeviceIsThatOfItsLastFailure(t *testing.T) {
	log := &kernelLog{file: -1, last: map[string]unix.Errno{}}
	for _, line := range []string{
		"4,401,15798,-;rbd: rbd0: write at objno 0 2048~512 result -5\n",
		"4,402,15799,-;rbd: rbd0: write at objno 0 2048~512 result -108\n",
		"4,403,15800,-;rbd: rbd10: write result -28\n",
		"6,404,15801,-;rbd: rbd0: capacity 33554432 features 0x1\n",
		"3,405,15802,-;I/O error, dev rbd1, sector 292 op 0x1:(WRITE) flags 0x8800 phys_seg 1 prio class 2\n",
	} {
		log.note([]byte(line))
	}
	for device, want := range map[string]unix.Errno{"rbd0": unix.ESHUTDOWN, "rbd10": unix.ENOSPC, "rbd1": 0} {
		if got := log.lastResult(device); got != want {
			t.Errorf("%s: %d, want %d", device, got, want)
		}
	}
}
