package port

import "testing"

// FuzzDiagAnswer: what the kernel says of a unix socket's queue; nothing is read beyond its end.
func FuzzDiagAnswer(f *testing.F) {
	good := make([]byte, diagHeader, 64)
	good[4] = sockDiagByFamily
	good = append(good, 12, 0, diagQueue, 0, 5, 0, 0, 0, 9, 0, 0, 0)
	f.Add(good)
	f.Add(good[:diagHeader])
	f.Add([]byte{0, 0, 0, 0, sockDiagByFamily})
	f.Fuzz(func(t *testing.T, b []byte) {
		length, limit, err := diagAnswer(b)
		if err != nil && (length != 0 || limit != 0) {
			t.Errorf("%q: %d of %d beside %v", b, length, limit, err)
		}
	})
}
