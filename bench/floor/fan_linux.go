//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fan is what loops share with -fanout.
type fan struct {
	bells []int32 // by loop: an eventfd that every table has under the same number

	mu  sync.Mutex
	box [][][]byte // by loop: frames for all of its connections; guarded by mu
}

func newFan(loops int) (*fan, error) {
	f := &fan{box: make([][][]byte, loops)}
	for range loops {
		fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("eventfd: %w", err)
		}
		f.bells = append(f.bells, int32(fd))
	}
	return f, nil
}

// join makes l loop number i of the fan. It is called on the loop's thread.
func (l *loop) join(f *fan, i int) error {
	l.fan, l.bell = f, f.bells[i]
	if err := l.control(unix.EPOLL_CTL_ADD, l.bell, readable); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// publish sends the message that is the one frame in b to all connections of all loops. Whatever else a client
// sends ends its connection.
func (l *loop) publish(fd int32, c *conn, b []byte) {
	payload, ok := message(b)
	if !ok {
		l.close(fd, c)
		return
	}
	frame := []byte{b[0]}
	if n := len(payload); n < 126 {
		frame = append(frame, byte(n))
	} else {
		frame = binary.BigEndian.AppendUint16(append(frame, 126), uint16(n))
	}
	frame = append(frame, payload...)
	for i, bell := range l.fan.bells {
		if bell == l.bell {
			continue
		}
		l.fan.mu.Lock()
		l.fan.box[i] = append(l.fan.box[i], frame)
		l.fan.mu.Unlock()
		one := uint64(1)
		unix.RawSyscall(unix.SYS_WRITE, uintptr(bell), uintptr(unsafe.Pointer(&one)), 8)
	}
	l.all(frame)
}

// message unmasks the payload of a text or binary frame that is all of b and shorter than 64 KiB.
func message(b []byte) (payload []byte, ok bool) {
	size := headerSize(b)
	if size > len(b) || size == 14 || len(b) < 2 || b[0] != 0x81 && b[0] != 0x82 || b[1]&0x80 == 0 {
		return nil, false
	}
	n := int(b[1] & 0x7f)
	if n == 126 {
		n = int(binary.BigEndian.Uint16(b[2:]))
	}
	if len(b) != size+n {
		return nil, false
	}
	payload = make([]byte, n)
	unmask(payload, b[size:], binary.LittleEndian.Uint32(b[size-4:]))
	return payload, true
}

// rung sends what other loops have left.
func (l *loop) rung() {
	var count uint64
	unix.RawSyscall(unix.SYS_READ, uintptr(l.bell), uintptr(unsafe.Pointer(&count)), 8)
	f := l.fan
	for i, bell := range f.bells {
		if bell != l.bell {
			continue
		}
		f.mu.Lock()
		frames := f.box[i]
		f.box[i] = nil
		f.mu.Unlock()
		for _, b := range frames {
			l.all(b)
		}
	}
}

// all writes b to every connection of the loop.
func (l *loop) all(b []byte) {
	for fd := range l.conns {
		switch c := &l.conns[fd]; c.phase {
		case open:
			l.write(int32(fd), c, b)
		case full:
			l.blocked[int32(fd)] = append(l.blocked[int32(fd)], b...)
		}
	}
}
