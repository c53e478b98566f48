package activation_test

import (
	"os"
	"testing"
	"time"

	"holdfast/handoff/activation"
)

const patience = 90 * time.Second

// TestMain lets this binary be the shim too, as holdfast's own is.
func TestMain(m *testing.M) {
	if os.Args[0] == activation.ShimName {
		os.Exit(activation.Shim(os.Args))
	}
	os.Exit(m.Run())
}
