package sys

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PutSocketStorage writes what a BPF map of type sk_storage keeps with a socket. Both descriptors are of the calling
// thread's table, which may be a private one. value is as long as the map's values. It allocates nothing and needs no
// rights.
func PutSocketStorage(storage, socket int, value []byte) error {
	return os.NewSyscallError("bpf map update", socketStorage(unix.BPF_MAP_UPDATE_ELEM, storage, socket, value))
}

// GetSocketStorage reads it, likewise. A socket for which nothing is kept is an error (ENOENT).
func GetSocketStorage(storage, socket int, value []byte) error {
	return os.NewSyscallError("bpf map lookup", socketStorage(unix.BPF_MAP_LOOKUP_ELEM, storage, socket, value))
}

// padding makes a pointer as wide as the kernel wants it, 64 bits. It fits little-endian machines, as the probes do.
type padding [8 - unsafe.Sizeof(uintptr(0))]byte

func socketStorage(command uintptr, storage, socket int, value []byte) error {
	key := int32(socket)
	// union bpf_attr of linux/bpf.h.
	call := struct {
		mapFD uint32
		_     uint32
		key   unsafe.Pointer
		_     padding
		value unsafe.Pointer
		_     padding
		flags uint64
	}{mapFD: uint32(storage), key: unsafe.Pointer(&key), value: unsafe.Pointer(unsafe.SliceData(value))}
	if _, _, errno := unix.RawSyscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&call)), unsafe.Sizeof(call)); errno != 0 {
		return errno
	}
	return nil
}
