// Package exit is how both commands end: with a code that scripts can rely on and one line that says what was wrong, and, where
// one of them runs the other far away, with the proof that it came to its end.
package exit
