package trigger

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFlags keep an open from waiting (a fifo without a writer, a device) or from making a terminal ours. The kind of the
// file is looked at before it is opened, and again after: between the two it may have been replaced.
const openFlags = os.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY

// minRead is how much is read of a file whatever size it claims: those the kernel makes up claim 0.
const minRead = 1 << 20

const errNotDir = syscall.ENOTDIR

// readFile gives the digest of a file; false for what doesn't count: special files, symlinks to directories, and tokens
// unless wanted by name.
func readFile(ctx context.Context, t tree, name string, named bool) (digest, bool, error) {
	if info, err := t.stat(name); err != nil || !info.Mode().IsRegular() {
		return digest{}, false, err
	}
	f, err := t.open(name, openFlags, 0)
	if err != nil {
		return digest{}, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return digest{}, false, err
	}
	// Not beyond the size it had: a log that grows faster than it is read would never end.
	in := io.LimitReader(f, max(info.Size(), minRead))
	if info.Size() > tokenLimit {
		return stream(ctx, in)
	}
	return small(in, named)
}

func small(in io.Reader, named bool) (digest, bool, error) {
	data, err := io.ReadAll(in)
	if err != nil {
		return digest{}, false, err
	}
	if !named && len(data) <= tokenLimit && isToken(data) {
		return digest{}, false, nil
	}
	return sha256.Sum256(data), true, nil
}

// stream hashes without holding the file in memory.
func stream(ctx context.Context, in io.Reader) (sum digest, ok bool, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, untilDone{ctx, in}); err != nil {
		return digest{}, false, err
	}
	h.Sum(sum[:0])
	return sum, true, nil
}

// untilDone lets the end of a context end a long read.
type untilDone struct {
	ctx context.Context
	in  io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.in.Read(p)
}
