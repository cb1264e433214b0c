//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The probes: they keep one record for each traced TCP connection, in the socket's own storage, and report it once,
// when the socket is destroyed. Nothing is attached where packets pass, so an established connection costs nothing
// until something of it is sent anew.
//
// All hooks are BTF raw tracepoints (tp_btf). kprobes, fentry and tracefs are refused on many kernels.
#include "kernel.h"

// Some helpers are only for programs whose licence is compatible with the kernel's.
char licence[] SEC("license") = "Dual BSD/GPL";

// Settings, put in before the programs are loaded.
const volatile u16 only_port = 0;      // 0: what was tracked from user space; else connections whose local port this is
const volatile u32 only_network = 0;   // with only_port: the network namespace's inode number
const volatile bool report_steps = 0;  // report every step of a connection, not only its end
const volatile u32 wake_at = 0;        // bytes in the ring that wake the reader, who looks by itself now and then

// place is where a connection is. It is kept with it, since a socket forgets its ports before it ends.
struct place {
	u8 local[16]; // IPv6, or IPv4 mapped into it
	u8 remote[16];
	u16 local_port;
	u16 remote_port;
};

enum life_flags {
	CLOSED_BY_EXIT = 1, // the process that closed it was ending
	DESTROYED = 2,      // its end has been reported
};

// life is a connection's record. Only the probes write it; user space may read it by the connection's descriptor.
// Times are CLOCK_MONOTONIC in nanoseconds; 0 means that it has not happened.
struct life {
	struct place place;
	u64 established;
	u64 fin_received;
	u64 fin_sent;
	u64 rst_received;
	u64 rst_sent;
	u64 closed;
	u64 retransmitted; // last
	u64 path;          // the last 16 states, 4 bits each, the newest lowest
	u64 bytes_received;
	u64 bytes_acked;
	u32 retransmits;  // segments that were sent anew
	u32 unacked;      // bytes that were written, but not acknowledged; a FIN counts as one
	u32 rtt;          // smoothed, microseconds
	u32 reset_reason; // of the RST that was sent: enum sk_rst_reason of the running kernel, from Linux 6.10
	u16 error;        // the socket's first; the kernel clears it when the application reads it
	u16 soft_error;
	u8 timeouts; // retransmission timeouts in a row
	u8 probes;   // keepalive or zero-window probes without an answer
	u16 flags;
};

// session is what user space calls the connection.
struct session {
	u8 id[16];
};

enum kind {
	STEP_STATE = 1,    // from → to
	STEP_RETRANSMIT,   // detail: how many so far
	STEP_RST_RECEIVED, //
	STEP_RST_SENT,     // detail: why
	STEP_ERROR,        // detail: errno
	ENDED,             // detail: 1 if it was told before, without the RST that was sent last
};

// head begins every event.
struct head {
	u64 time;
	u64 cookie;
	struct session session;
	u32 detail;
	u8 kind;
	u8 from;
	u8 to;
	u8 unused;
};
struct step {
	struct head head;
	struct place place;
};
struct ending {
	struct head head;
	struct life life;
};

// What user space reads, kept in the object's type information.
struct step *step_type __attribute__((unused));
struct ending *ending_type __attribute__((unused));

// The maps.

// lives: socket → its record. User space puts an empty one at a listener, and the kernel copies it into every
// connection that the listener accepts: that is what traces them. It is freed with the socket.
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_SK_STORAGE);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	MAP_TYPE(key, int);
	MAP_TYPE(value, struct life);
} lives SEC(".maps");

// sessions: socket → what user space calls it. User space writes it.
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_SK_STORAGE);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, int);
	MAP_TYPE(value, struct session);
} sessions SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_RINGBUF);
	MAP_NUMBER(max_entries, 1 << 22);
} events SEC(".maps");

enum counter {
	TRANSITIONS = 0,     // 256 of them: from << 4 | to
	REPORTED = 256,      // events in the ring
	LOST,                // events for which the ring had no room
	RST_NO_SOCKET,       // RSTs that were sent without a socket, by the whole machine
	RST_TIME_WAIT,       // RSTs that answered something for a connection that was over, by the whole machine
	COUNTERS,
};
struct counts {
	u64 number[COUNTERS];
};
// counters has one value for each CPU, so that they can be read at once.
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct counts);
} counters SEC(".maps");

INLINE void count(u32 i)
{
	struct counts *c;
	u32 zero = 0;

	c = bpf_map_lookup_elem(&counters, &zero);
	if (c)
		c->number[i]++;
}

INLINE void locate(struct sock *sk, struct place *p)
{
	p->local_port = sk->__sk_common.skc_num;
	p->remote_port = __builtin_bswap16(sk->__sk_common.skc_dport);
	if (sk->__sk_common.skc_family == AF_INET6) {
		__builtin_memcpy(p->local, sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8, 16);
		__builtin_memcpy(p->remote, sk->__sk_common.skc_v6_daddr.in6_u.u6_addr8, 16);
	} else {
		p->local[10] = p->local[11] = p->remote[10] = p->remote[11] = 0xff;
		*(u32 *)&p->local[12] = sk->__sk_common.skc_rcv_saddr;
		*(u32 *)&p->remote[12] = sk->__sk_common.skc_daddr;
	}
}

// life_of is the record of a socket that is traced, or NULL. With only_port a connection that was there before the
// probes gets its record at the first thing that happens to it; state is the one that it was in.
INLINE struct life *life_of(struct sock *sk, u8 state)
{
	struct life *l;

	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV)
		return NULL; // no full socket
	l = bpf_sk_storage_get(&lives, sk, NULL, 0);
	if (l || !only_port)
		return state == TCP_LISTEN ? NULL : l;
	if (state == TCP_LISTEN || state == TCP_CLOSE || sk->__sk_common.skc_num != only_port ||
	    sk->__sk_common.skc_net.net->ns.inum != only_network)
		return NULL;
	l = bpf_sk_storage_get(&lives, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (l && !l->path) {
		l->path = state;
		locate(sk, &l->place);
	}
	return l;
}

// tally puts the socket's present figures into its record, until it is closed: the kernel clears some on the way.
INLINE void tally(struct sock *sk, struct life *l)
{
	struct tcp_sock *tp;

	if (!l->error)
		l->error = sk->sk_err;
	if (!l->soft_error)
		l->soft_error = sk->sk_err_soft;
	if (l->closed)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	l->timeouts = tp->inet_conn.icsk_retransmits;
	l->probes = tp->inet_conn.icsk_probes_out;
	l->unacked = tp->write_seq - tp->snd_una;
	l->rtt = tp->srtt_us >> 3;
	l->bytes_received = tp->bytes_received;
	l->bytes_acked = tp->bytes_acked;
}

INLINE void begin(struct head *h, struct sock *sk, u8 kind, u32 detail, u8 from, u8 to)
{
	struct session *s = bpf_sk_storage_get(&sessions, sk, NULL, 0);

	h->time = bpf_ktime_get_ns();
	h->cookie = bpf_get_socket_cookie(sk);
	if (s)
		h->session = *s;
	else
		__builtin_memset(&h->session, 0, sizeof(h->session));
	h->detail = detail;
	h->kind = kind;
	h->from = from;
	h->to = to;
	h->unused = 0;
}

// submit hands an event to the reader, and wakes it only when much is waiting: a wake-up costs more than the event.
INLINE void submit(void *event)
{
	u64 flags = BPF_RB_NO_WAKEUP;

	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= wake_at)
		flags = BPF_RB_FORCE_WAKEUP;
	bpf_ringbuf_submit(event, flags);
	count(REPORTED);
}

INLINE void step(struct sock *sk, struct life *l, u8 kind, u32 detail, u8 from, u8 to)
{
	struct step *e;

	if (!report_steps)
		return;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count(LOST);
		return;
	}
	begin(&e->head, sk, kind, detail, from, to);
	e->place = l->place;
	submit(e);
}

INLINE void end(struct sock *sk, struct life *l, u32 again)
{
	struct ending *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(LOST);
		return;
	}
	begin(&e->head, sk, ENDED, again, l->path & 15, 0);
	e->life = *l;
	submit(e);
}

INLINE bool exiting(void)
{
	return bpf_get_current_task_btf()->flags & PF_EXITING;
}

INLINE int state(struct sock *sk, u8 from, u8 to)
{
	struct life *l;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0; // the tracepoint is that of MPTCP, SCTP and DCCP, too
	// A new connection is a copy of its listener, and its first step is from LISTEN.
	l = life_of(sk, from == TCP_LISTEN && to == TCP_SYN_RECV ? TCP_SYN_RECV : from);
	if (!l || l->closed || from == to) // close() after shutdown() sets the state anew
		return 0;
	count(TRANSITIONS + ((from & 15) << 4 | (to & 15)));
	if ((l->path & 15) != to)
		l->path = l->path << 4 | (to & 15);
	switch (to) {
	case TCP_SYN_RECV:
		if (report_steps) // else the next step is soon enough
			locate(sk, &l->place);
		break;
	case TCP_ESTABLISHED:
		l->established = bpf_ktime_get_ns();
		locate(sk, &l->place);
		break;
	case TCP_FIN_WAIT1:
	case TCP_LAST_ACK:
		if (!l->fin_sent) {
			l->fin_sent = bpf_ktime_get_ns();
			if (exiting())
				l->flags |= CLOSED_BY_EXIT;
		}
		break;
	case TCP_CLOSE_WAIT:
	case TCP_CLOSING:
		l->fin_received = bpf_ktime_get_ns();
		break;
	case TCP_CLOSE:
		tally(sk, l);
		l->closed = bpf_ktime_get_ns();
		if (!l->error && !l->rst_received) {
			// The client's FIN in FIN_WAIT2 has no state of its own: TIME_WAIT is another kind of socket.
			if (!l->fin_received && sk->__sk_common.skc_flags & 1UL << enum_value(enum sock_flags, SOCK_DONE))
				l->fin_received = l->closed;
			// Without an error this is close() itself; timers and packets come on top of any task.
			if (!l->fin_sent && exiting())
				l->flags |= CLOSED_BY_EXIT;
		}
		break;
	}
	step(sk, l, STEP_STATE, 0, from, to);
	return 0;
}

// A probe is not run on a CPU on which it is running: a packet or timer that ends one connection may interrupt a process that
// closes another one. Most steps that are missed so are made good by the next. The last ones are not: CLOSE comes with
// the socket's error, which is gone when the application has read it, and after the end comes nothing. So these two have a second
// probe, and only one of the two can be running.

SEC("tp_btf/inet_sock_set_state")
int on_state(u64 *ctx)
{
	return state((void *)ctx[0], ctx[1], ctx[2]);
}

SEC("tp_btf/inet_sock_set_state")
int on_state_too(u64 *ctx)
{
	if (ctx[2] != TCP_CLOSE)
		return 0;
	return state((void *)ctx[0], ctx[1], TCP_CLOSE);
}

SEC("tp_btf/tcp_receive_reset")
int on_rst_received(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	u8 state = sk->__sk_common.skc_state;
	struct life *l = life_of(sk, state);

	if (!l)
		return 0;
	l->rst_received = bpf_ktime_get_ns();
	tally(sk, l);
	step(sk, l, STEP_RST_RECEIVED, 0, state, state);
	return 0;
}

INLINE int rst_sent(struct sock *sk, u32 reason)
{
	struct life *l;
	u8 state;

	if (!sk) {
		count(RST_NO_SOCKET);
		return 0;
	}
	state = sk->__sk_common.skc_state;
	if (state == TCP_TIME_WAIT) {
		count(RST_TIME_WAIT);
		return 0;
	}
	l = life_of(sk, state);
	if (!l)
		return 0;
	if (!l->rst_sent) {
		l->rst_sent = bpf_ktime_get_ns();
		l->reset_reason = reason;
	}
	tally(sk, l);
	// Data that comes after our FIN is answered when the socket is destroyed already: the end is told again.
	if (l->flags & DESTROYED)
		end(sk, l, 1);
	else
		step(sk, l, STEP_RST_SENT, reason, state, state);
	return 0;
}

// The reason is an argument since Linux 6.10. The loader takes the one of the two that fits.
SEC("tp_btf/tcp_send_reset")
int on_rst_sent(u64 *ctx)
{
	return rst_sent((void *)ctx[0], ctx[2]);
}

SEC("tp_btf/tcp_send_reset")
int on_rst_sent_before_6_10(u64 *ctx)
{
	return rst_sent((void *)ctx[0], 0);
}

SEC("tp_btf/tcp_retransmit_skb")
int on_retransmit(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	u8 state = sk->__sk_common.skc_state;
	struct life *l = life_of(sk, state);

	if (!l)
		return 0;
	l->retransmits++;
	l->retransmitted = bpf_ktime_get_ns();
	step(sk, l, STEP_RETRANSMIT, l->retransmits, state, state);
	return 0;
}

SEC("tp_btf/inet_sk_error_report")
int on_error(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	u8 state = sk->__sk_common.skc_state;
	struct life *l;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	l = life_of(sk, state);
	if (!l)
		return 0;
	tally(sk, l);
	step(sk, l, STEP_ERROR, l->error, state, state); // the socket's own may be read already, on another CPU
	return 0;
}

INLINE int destroyed(struct sock *sk)
{
	struct life *l = life_of(sk, TCP_CLOSE);

	if (!l || !l->path) // a listener's record has no path
		return 0;
	if (l->flags & DESTROYED)
		return 0;
	tally(sk, l);
	if (!l->closed) { // the steps before were missed
		l->closed = bpf_ktime_get_ns();
		l->path = l->path << 4 | TCP_CLOSE;
	}
	l->flags |= DESTROYED;
	end(sk, l, 0);
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int on_destroy(u64 *ctx)
{
	return destroyed((void *)ctx[0]);
}

SEC("tp_btf/tcp_destroy_sock")
int on_destroy_too(u64 *ctx)
{
	return destroyed((void *)ctx[0]);
}
