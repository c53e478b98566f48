// Package inits tries holdfast beside the inits that it replaces: each case runs against holdfast, tini, dumb-init and
// catatonit, each a real PID 1 of a PID namespace of its own, and what came of it goes into one table (docs/init.md). A
// case fails if holdfast does not do what the case wants, or if it differs from another without a reason beside it.
//
// With -short what takes long is left out, and nothing is written.
package inits
