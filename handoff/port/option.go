package port

import "golang.org/x/sys/unix"

// An OptionName names a socket option: the level and the number that setsockopt(2) takes.
type OptionName struct{ Level, Name int }

// An Option is a socket option and the bytes of its value.
type Option struct {
	OptionName
	Value []byte
}

// apply sets on fd what the program had set on its own socket: with the very value that it gave, since the kernel doubles
// a buffer's size whenever it is set (SO_RCVBUF, socket(7)). The kernel may refuse what it refused to the program too, or
// what only a capability of the program's allows, so an error is for the log.
func (p *Port) apply(fd int, options []Option) {
	for _, o := range options {
		if err := unix.SetsockoptString(fd, o.Level, o.Name, string(o.Value)); err != nil {
			p.log.Debug("a socket option of the program's is not set", "level", o.Level, "option", o.Name, "err", err)
		}
	}
}
