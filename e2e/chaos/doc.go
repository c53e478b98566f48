// Package chaos disturbs holdfast, a real PID 1 without privileges in front of real servers under load, in every way that
// is known to happen to one, while it hands over again and again; and counts what became of every connection. A request
// that is lost fails the test, but for the exceptions that are named in account_test.go, which are counted apart.
//
// What is done, and when, is drawn from a seed before it begins: the same seed gives the same plan.
//
//	make chaos                       500 handoffs, a new seed, some ten minutes
//	make chaos HANDOFFS=20 SEED=7    fewer, and that seed
//
// Without flags it is short, and its seed is always the same: that is what CI runs.
//
// The soak (soak_test.go) hands over 2,000 times without disturbance, and nothing must grow.
//
// Both run in a network and a mount namespace of their own. They need root.
package chaos
