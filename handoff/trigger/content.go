package trigger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
)

// maxVanished bounds what is remembered of files that have gone, for directories whose names change all the time.
const maxVanished = 4096

type digest [sha256.Size]byte

// content is what was read: the digest of each file by its path. A content is never changed once it is made, so it can
// be handed between goroutines.
type content map[string]digest

// hash covers names and bytes. The names are framed by their length, so that no two contents give the same stream.
func (c content) hash() string {
	if len(c) == 0 {
		return ""
	}
	h := sha256.New()
	var frame [8]byte
	for _, name := range slices.Sorted(maps.Keys(c)) {
		binary.BigEndian.PutUint64(frame[:], uint64(len(name)))
		d := c[name]
		h.Write(frame[:])
		h.Write([]byte(name))
		h.Write(d[:])
	}
	return hex.EncodeToString(h.Sum(nil))[:hashLength]
}

// changed lists the files of c that known lacks or has with other content. What is only in known has vanished, and that
// is never a change.
func (c content) changed(known content) []string {
	var names []string
	for name, d := range c {
		if old, ok := known[name]; !ok || old != d {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// over lays c over known: what has vanished stays known, so that it is recognised when it comes back.
func (c content) over(known content) content {
	merged := maps.Clone(c)
	if merged == nil {
		merged = content{}
	}
	vanished := 0
	for name, d := range known {
		if _, ok := merged[name]; !ok && vanished < maxVanished {
			merged[name] = d
			vanished++
		}
	}
	return merged
}

// keep adds what was known of paths that are there but can't be read now, or of everything below them. Taking them for
// vanished would be harmless, but the hash would then tell of a difference that nobody has made.
func (c content) keep(known content, failed map[string]error) content {
	if len(failed) == 0 {
		return c
	}
	kept := maps.Clone(c)
	for name, d := range known {
		if _, ok := kept[name]; !ok && under(name, failed) {
			kept[name] = d
		}
	}
	return kept
}

// under tells whether name or a directory above it is in paths.
func under(name string, paths map[string]error) bool {
	for at := name; ; {
		if _, ok := paths[at]; ok {
			return true
		}
		cut := strings.LastIndexByte(at, '/')
		if cut <= 0 {
			return false
		}
		at = at[:cut]
	}
}
