package cli

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// openLog opens a log whose reading can be ended: it may be a pipe, and what writes into that need not stop. - is standard input. Whoever
// calls it closes what it opened.
func openLog(name string, stdin io.Reader) (r io.Reader, done func(), err error) {
	if name == "-" {
		r, done = openStdin(stdin)
		return r, done, nil
	}
	flag := os.O_RDONLY
	if target, err := filepath.EvalSymlinks(name); err == nil {
		if fi, err := os.Lstat(target); err == nil && fi.Mode()&os.ModeNamedPipe != 0 {
			flag = os.O_RDWR // to open a FIFO for reading alone waits for a writer
		}
	}
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { _ = f.Close() }, nil
}

// openStdin opens standard input once more where that is a pipe or a terminal: a read of the process's own blocks until something comes.
// What cannot be opened so, as a socket, is read as it is.
func openStdin(stdin io.Reader) (r io.Reader, done func()) {
	f, ok := stdin.(*os.File)
	if !ok || f != os.Stdin || f.SetReadDeadline(time.Time{}) == nil {
		return stdin, func() {}
	}
	if fi, err := f.Stat(); err != nil || fi.Mode().IsRegular() {
		return stdin, func() {}
	}
	again, err := os.OpenFile("/dev/stdin", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return stdin, func() {}
	}
	return again, func() { _ = again.Close() }
}
