//go:build !crashable

package main

// boundary: the process crashes by no will of its own.
var boundary func(name string)
