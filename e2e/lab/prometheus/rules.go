package prometheus

import "regexp"

var (
	minutes = regexp.MustCompile(`(?m)^( *for: \d+)m$`)
	hours   = regexp.MustCompile(`(?m)^( *for: \d+)h$`)
)

// hasten makes seconds of the minutes, and minutes of the hours, that a fact must hold before its alert fires: a test cannot wait for
// a quarter of an hour. All else of the rules stays as users have it. So an alert that says of something that it takes too long may
// fire here where all is well.
func hasten(rules []byte) []byte {
	return hours.ReplaceAll(minutes.ReplaceAll(rules, []byte("${1}s")), []byte("${1}m"))
}
