package main

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// terminationLog is where the kubelet looks for the last words of a container (terminationMessagePath).
const terminationLog = "/dev/termination-log"

// maxLastWords is less than the 4096 bytes that the kubelet reads, from the end: something of the program's own should
// have room before it.
const maxLastWords = 2048

// leaveWord adds why a container has ended to the file, so that kubectl describe shows it. The file is there if somebody
// wants to know; it is not made, and what the program has written there itself stays. That it can not be written is
// nobody's trouble.
func leaveWord(path, text string) {
	if path == "" || text == "" {
		return
	}
	// A fifo that nobody reads, or a device, must not hold up the end.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	text = strings.ToValidUTF8(text[:min(len(text), maxLastWords)], "?") + "\n"
	last := make([]byte, 1)
	if n, _ := f.ReadAt(last, info.Size()-1); n == 1 && last[0] != '\n' {
		text = "\n" + text
	}
	_, _ = f.WriteString(text)
}
