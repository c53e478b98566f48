package takeover

import (
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// What the shim sends, once: 'L' and a byte of flags with the listener as SCM_RIGHTS, or 'F', the errno as 4 bytes, and
// the reason. Both ends are the same binary, so there is no version.
const (
	listenerKind = 'L'
	failureKind  = 'F'
	maxMessage   = 512
)

const (
	waitKillableBit = 1 << iota
	specAllowBit
	noNewPrivsBit
)

var errMessage = errors.New("not a message of a shim")

func listenerMessage(f Flags) []byte {
	var bits byte
	if f.WaitKillable {
		bits |= waitKillableBit
	}
	if f.SpecAllow {
		bits |= specAllowBit
	}
	if f.NoNewPrivs {
		bits |= noNewPrivsBit
	}
	return []byte{listenerKind, bits}
}

func failureMessage(e *InstallError) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{failureKind}, uint32(e.Errno))
	return append(b, e.Reason[:min(len(e.Reason), maxMessage-len(b))]...)
}

// parseMessage is the way back. failure is nil for a message that comes with a listener.
func parseMessage(b []byte) (f Flags, failure *InstallError, err error) {
	switch {
	case len(b) == 2 && b[0] == listenerKind:
		return Flags{
			WaitKillable: b[1]&waitKillableBit != 0,
			SpecAllow:    b[1]&specAllowBit != 0,
			NoNewPrivs:   b[1]&noNewPrivsBit != 0,
		}, nil, nil
	case len(b) >= 5 && b[0] == failureKind:
		errno := unix.Errno(binary.LittleEndian.Uint32(b[1:]))
		return f, &InstallError{Errno: errno, Reason: strings.ToValidUTF8(string(b[5:]), "?")}, nil
	default:
		return f, nil, errMessage
	}
}

// tell sends a message, with fd unless that is negative.
func tell(control int, message []byte, fd int) error {
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	for {
		// MSG_NOSIGNAL: a holder that is gone is an error, not the end of the shim.
		err := unix.Sendmsg(control, message, rights, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}
