//go:build librados

package librados

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// Options say which cluster to connect to, and as whom. Nothing is read from files, and the environment (CEPH_ARGS) is weaker.
type Options struct {
	// Monitors, as in ceph-csi's configuration: "10.0.0.1:6789", "v2:10.0.0.1:3300", "[v2:…,v1:…]".
	Monitors []string
	// User without "client.".
	User string
	// Key of the user, as `ceph auth get-key` prints it. It appears in no error and no log.
	Key string
	// ConnectTimeout is Ceph's own limit to connect; 10 s if 0.
	ConnectTimeout time.Duration
	// OperationTimeout is Ceph's own limit for each command and each operation; 15 s if 0. It bounds how long a call that
	// its caller has given up goes on.
	OperationTimeout time.Duration
}

// Validate names the option that is missing.
func (o Options) Validate() error {
	switch {
	case len(o.Monitors) == 0:
		return errors.New("no monitors to connect to: give at least one address")
	case o.User == "":
		return errors.New("no Ceph user to connect as: give its name without \"client.\"")
	case o.Key == "":
		return errors.New("no key of Ceph user " + o.User + " to connect with")
	}
	return nil
}

// config is what librados is told before it connects. Options set here are stronger than those that the monitors hand out.
func (o Options) config() []option {
	return []option{
		{name: "mon_host", value: strings.Join(o.Monitors, ",")},
		{name: "keyring", value: ""}, // a file found there would win over the key
		{name: "keyfile", value: ""},
		{name: "key", value: o.Key},
		{name: "client_mount_timeout", value: seconds(o.ConnectTimeout, 10*time.Second)},
		{name: "rados_mon_op_timeout", value: seconds(o.OperationTimeout, 15*time.Second)},
		{name: "rados_osd_op_timeout", value: seconds(o.OperationTimeout, 15*time.Second)},
		{name: "log_file", value: ""},
		{name: "log_to_stderr", value: "false"},
		{name: "err_to_stderr", value: "false"},
		{name: "admin_socket", value: ""},
		// What librbd breaks a lock of is cut off already, and its entry would get a new, short end.
		{name: "rbd_blocklist_on_break_lock", value: "false", mayBeUnknown: true},
		{name: "rbd_blacklist_on_break_lock", value: "false", mayBeUnknown: true}, // its name before Ceph 16
		// The barrier must be answered by primaries; newer releases can be told to read from any replica.
		{name: "rados_replica_read_policy", value: "default", mayBeUnknown: true},
	}
}

type option struct {
	name, value string
	// mayBeUnknown is set for what only some releases know.
	mayBeUnknown bool
}

// seconds rounds up: 0 would mean no limit.
func seconds(limit, preset time.Duration) string {
	if limit <= 0 {
		limit = preset
	}
	return strconv.Itoa(int(math.Ceil(limit.Seconds())))
}
