//go:build linux && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package trace

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/longwire/longwire/internal/sys"
)

//go:generate ../../scripts/probes

// Kinds, counters and flags of bpf/life.bpf.c.
const (
	kindState = 1 + iota
	kindRetransmit
	kindRSTReceived
	kindRSTSent
	kindError
	kindEnded
)
const (
	countReported = 256 + iota
	countLost
	countRSTsWithoutSocket
	countRSTsInTimeWait
)
const flagClosedByExit = 1

// kernel is LevelBPF: probes in the kernel.
type kernel struct {
	options  Options
	events   *ebpf.Map // the reader watches its descriptor
	counters *ebpf.Map
	lives    *ebpf.Map
	sessions *ebpf.Map
	reader   *ringbuf.Reader
	probes   []link.Link
	programs []*ebpf.Program   // of probes
	reasons  map[uint32]string // why an RST is sent, by number, of this kernel

	unread atomic.Uint64 // records that Run could not read

	// Of run.
	clock  bootTime
	event  Event
	life   Life
	ending probesEnding
	step   probesStep
	held   []heldEnd
}

// heldEnd is an end that may be told again: data that comes after our FIN makes the kernel end the connection as if an RST
// had come, tell of it, and only then send the RST.
type heldEnd struct {
	ending probesEnding
	since  time.Time
}

// openKernel loads the probes and attaches them.
func openKernel(o Options, network *sys.Network) (source, error) {
	k := &kernel{options: o}
	// Reading the kernel's types and relocating takes some 8 MB for a moment: they are given back.
	defer debug.FreeOSMemory()
	if err := k.open(network); err != nil {
		_ = k.close()
		return nil, err
	}
	return k, nil
}

func (k *kernel) open(network *sys.Network) error {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return fmt.Errorf("type information of the kernel (CONFIG_DEBUG_INFO_BTF, /sys/kernel/btf/vmlinux): %w", err)
	}
	spec, err := loadProbes()
	if err != nil {
		return err
	}
	choose(spec, arguments(types, "tcp_send_reset"))
	k.reasons = resetReasons(types)
	settings := map[string]any{
		"only_port":    k.options.Port,
		"report_steps": k.options.Steps,
		"wake_at":      uint32(k.options.Ring / 8),
	}
	if k.options.Port != 0 {
		if network == nil {
			if network, err = sys.NetworkOf(os.Getpid()); err != nil {
				return err
			}
			defer func() { _ = network.Close() }()
		}
		if settings["only_network"], err = network.Inode(); err != nil {
			return err
		}
	}
	for name, value := range settings {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	spec.Maps["events"].MaxEntries = uint32(k.options.Ring)

	loaded, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{KernelTypes: types}})
	if err != nil {
		return loadError(err)
	}
	defer loaded.Close() // what is attached or taken out stays
	for name := range loaded.Programs {
		p := loaded.DetachProgram(name)
		k.programs = append(k.programs, p)
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			return fmt.Errorf("attach %s: %w", name, err)
		}
		k.probes = append(k.probes, l)
	}
	for name, m := range map[string]**ebpf.Map{"events": &k.events, "counters": &k.counters, "lives": &k.lives, "sessions": &k.sessions} {
		*m = loaded.DetachMap(name)
	}
	if k.reader, err = ringbuf.NewReader(k.events); err != nil {
		return fmt.Errorf("ring buffer: %w", err)
	}
	return nil
}

// choose leaves of two probes the one that fits a kernel whose tcp_send_reset has so many arguments.
func choose(spec *ebpf.CollectionSpec, arguments int) {
	other := "on_rst_sent_before_6_10"
	if arguments < 3 {
		other = "on_rst_sent"
	}
	delete(spec.Programs, other)
}

// loadError says what is missing. The kernel's own words depend on what was refused first, and mislead.
func loadError(err error) error {
	have, e := sys.Capabilities()
	if e == nil && have&sys.CapSysAdmin == 0 {
		var missing []string
		if have&sys.CapBPF == 0 {
			missing = append(missing, "CAP_BPF")
		}
		if have&sys.CapPerfmon == 0 {
			missing = append(missing, "CAP_PERFMON")
		}
		if missing != nil {
			return fmt.Errorf("this process lacks %s (setcap cap_bpf,cap_perfmon+ep on its file, or run it as root): %w", strings.Join(missing, " and "), os.ErrPermission)
		}
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("the kernel refuses BPF although the capabilities are there (a container's filter, or lockdown=confidentiality): %w", err)
	}
	return fmt.Errorf("load the probes: %w", err)
}

// arguments is how many a tracepoint has in the running kernel; 0 if it has no such tracepoint.
func arguments(types *btf.Spec, tracepoint string) int {
	var d *btf.Typedef
	if types.TypeByName("btf_trace_"+tracepoint, &d) != nil {
		return 0
	}
	p, ok := d.Type.(*btf.Pointer)
	if !ok {
		return 0
	}
	f, ok := p.Target.(*btf.FuncProto)
	if !ok {
		return 0
	}
	return len(f.Params) - 1 // the first is the hook's own
}

// resetReasons are the kernel's names of why it sends an RST; none before Linux 6.10.
func resetReasons(types *btf.Spec) map[uint32]string {
	reasons := make(map[uint32]string)
	var e *btf.Enum
	if types.TypeByName("sk_rst_reason", &e) != nil {
		return reasons
	}
	for _, v := range e.Values {
		reasons[uint32(v.Value)] = strings.TrimPrefix(v.Name, "SK_RST_REASON_")
	}
	return reasons
}

func (k *kernel) close() error {
	var errs []error
	for _, l := range k.probes {
		errs = append(errs, l.Close())
	}
	for _, p := range k.programs {
		errs = append(errs, p.Close())
	}
	if k.reader != nil {
		errs = append(errs, k.reader.Close())
	}
	for _, m := range []*ebpf.Map{k.events, k.counters, k.lives, k.sessions} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

func (k *kernel) trackListener(fd int) error {
	if sys.IsMPTCP(fd) {
		return fmt.Errorf("trace the listener %d: it speaks MPTCP, and its connections are not copies of it: make it with net.ListenConfig.SetMultipathTCP(false)", fd)
	}
	// An empty record, which the kernel copies into every connection that is accepted.
	var empty [unsafe.Sizeof(probesLife{})]byte
	if err := sys.PutSocketStorage(k.lives.FD(), fd, empty[:]); err != nil {
		return fmt.Errorf("trace the listener %d: %w", fd, err)
	}
	return nil
}

func (k *kernel) tag(fd int, id [16]byte) error {
	return sys.PutSocketStorage(k.sessions.FD(), fd, id[:])
}

func (*kernel) closing(int, [16]byte, Seen) error { return nil }

func (k *kernel) descriptors() []int { return []int{k.lives.FD(), k.sessions.FD()} }

func (k *kernel) stats() (Stats, error) {
	var each []probesCounts // for each CPU
	if err := k.counters.Lookup(uint32(0), &each); err != nil {
		return Stats{}, fmt.Errorf("counters: %w", err)
	}
	s := Stats{Lost: k.unread.Load()}
	for i := range each {
		n := &each[i].Number
		s.Events += n[countReported]
		s.Lost += n[countLost]
		s.RSTsWithoutSocket += n[countRSTsWithoutSocket]
		s.RSTsInTimeWait += n[countRSTsInTimeWait]
		for from := range s.Transitions {
			for to := range s.Transitions[from] {
				s.Transitions[from][to] += n[from<<4|to]
			}
		}
	}
	for _, p := range k.programs {
		p, err := p.Stats()
		if err != nil {
			return Stats{}, fmt.Errorf("probes: %w", err)
		}
		s.Missed += p.RecursionMisses
	}
	return s, nil
}

func (k *kernel) run(ctx context.Context) error {
	var record ringbuf.Record
	for {
		done := ctx.Err() != nil // before the ring is read for the last time
		k.clock = boot()
		k.reader.SetDeadline(time.Now().Add(tick))
		for {
			err := k.reader.ReadInto(&record)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break // the ring is empty
			}
			if err != nil {
				return fmt.Errorf("ring buffer: %w", err)
			}
			k.read(record.RawSample)
			if record.Remaining == 0 {
				break
			}
		}
		until := time.Now().Add(-tick)
		if done {
			until = time.Now()
		}
		k.release(until)
		k.options.Idle()
		if done {
			return nil
		}
	}
}

// fill copies what a probe or user space wrote into one of the probes' structs, and reports whether there is enough.
func fill[T probesEnding | probesStep | probesLife](to *T, b []byte) bool {
	n := int(unsafe.Sizeof(*to))
	return len(b) >= n && copy(unsafe.Slice((*byte)(unsafe.Pointer(to)), n), b) == n
}

// read takes one record of the ring.
func (k *kernel) read(b []byte) {
	switch {
	case fill(&k.ending, b):
		if k.ending.Head.Kind == kindEnded {
			k.ended(&k.ending)
			return
		}
	case fill(&k.step, b):
		if e := &k.step; e.Head.Kind >= kindState && e.Head.Kind <= kindError {
			k.begin(&e.Head, &e.Place)
			k.options.Handle(&k.event)
			return
		}
	}
	k.unread.Add(1)
}

// ended takes an end, or holds it until it is clear that it is not told again.
func (k *kernel) ended(e *probesEnding) {
	if e.Head.Detail != 0 { // told again, now complete
		for i := range k.held {
			if k.held[i].ending.Head.Cookie == e.Head.Cookie {
				k.held = append(k.held[:i], k.held[i+1:]...)
				k.tell(e)
				return
			}
		}
		return
	}
	if Path(e.Life.Path).FirstFIN() == SideServer && e.Life.RstReceived != 0 && e.Life.RstSent == 0 {
		k.held = append(k.held, heldEnd{*e, time.Now()})
		return
	}
	k.tell(e)
}

// release tells of the ends that are held since then.
func (k *kernel) release(until time.Time) {
	n := 0
	for n < len(k.held) && !k.held[n].since.After(until) {
		k.tell(&k.held[n].ending)
		n++
	}
	k.held = k.held[n:]
	if len(k.held) == 0 {
		k.held = nil
	}
}

func (k *kernel) tell(e *probesEnding) {
	k.begin(&e.Head, &e.Life.Place)
	k.life = k.record(&e.Life, k.clock)
	k.life.Session, k.life.Cookie, k.life.Ended = e.Head.Session.Id, e.Head.Cookie, true
	k.event.Life = &k.life
	k.options.Handle(&k.event)
}

// record is what the probes know of a connection.
func (k *kernel) record(l *probesLife, clock bootTime) Life {
	path := Path(l.Path)
	r := Life{
		Level: LevelBPF, Path: path, First: path.FirstFIN(),
		Established: clock.at(l.Established), FINReceived: clock.at(l.FinReceived), FINSent: clock.at(l.FinSent),
		RSTReceived: clock.at(l.RstReceived), RSTSent: clock.at(l.RstSent), Retransmitted: clock.at(l.Retransmitted), Closed: clock.at(l.Closed),
		Retransmits: l.Retransmits, Timeouts: l.Timeouts, Probes: l.Probes, Unacked: uint64(l.Unacked), RTT: time.Duration(l.Rtt) * time.Microsecond,
		BytesReceived: l.BytesReceived, BytesAcked: l.BytesAcked,
		Err: syscall.Errno(l.Error), SoftErr: syscall.Errno(l.SoftError), ByExit: l.Flags&flagClosedByExit != 0,
	}
	r.Local, r.Remote = l.Place.addresses()
	if l.RstSent != 0 {
		r.ResetReason = k.reasons[l.ResetReason]
	}
	return r
}

func (k *kernel) look(fd int) (Life, error) {
	var b [unsafe.Sizeof(probesLife{})]byte
	if err := sys.GetSocketStorage(k.lives.FD(), fd, b[:]); err != nil {
		return Life{}, err
	}
	var l probesLife
	fill(&l, b[:])
	return k.record(&l, boot()), nil
}

func (p *probesPlace) addresses() (local, remote netip.AddrPort) {
	return netip.AddrPortFrom(netip.AddrFrom16(p.Local).Unmap(), p.LocalPort), netip.AddrPortFrom(netip.AddrFrom16(p.Remote).Unmap(), p.RemotePort)
}

// begin puts what all events have into k.event.
func (k *kernel) begin(h *probesHead, p *probesPlace) {
	k.event = Event{
		Kind: Kind(h.Kind), Time: k.clock.at(h.Time), Session: h.Session.Id, Cookie: h.Cookie,
		From: sys.SocketState(h.From), To: sys.SocketState(h.To),
	}
	k.event.Local, k.event.Remote = p.addresses()
	switch h.Kind {
	case kindRetransmit:
		k.event.Retransmits = h.Detail
	case kindRSTSent:
		k.event.ResetReason = k.reasons[h.Detail]
	case kindError:
		k.event.Err = syscall.Errno(h.Detail)
	}
}

// bootTime is the wall clock's time at 0 of the kernel's monotonic clock. It is asked for anew now and then: the wall
// clock may be set.
type bootTime time.Time

func boot() bootTime { return bootTime(time.Now().Add(-sys.Monotonic())) }

// at is the wall clock's time at one of the monotonic clock, in nanoseconds; zero for 0.
func (b bootTime) at(ns uint64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Time(b).Add(time.Duration(ns))
}
