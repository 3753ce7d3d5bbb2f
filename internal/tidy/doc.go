// Package tidy holds the house rules of the module as a test: which package may import
// which, how long a function, a file, a line or an interface may be, what pure packages must
// not touch, and that every exported name says what it does. It has no code of its own.
//
// A rule is set aside for one declaration by a comment on or above it:
// //tidy:allow RULE: why
package tidy
