// Package look gathers the facts for package doctor, and decides nothing. It writes nothing: what it tries is refused, or a dry run.
// Whatever cannot be read is a fact, too.
package look
