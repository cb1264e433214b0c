package centrifuge

import (
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/wire/json"
)

// The Append functions append one message each: in JSON an object, which a caller separates from the next by a line
// break (there is none within); in Protobuf a message after its length. Data and infos are JSON for a client that speaks
// JSON, which is for the caller to know, by json.Valid; they go out as they are.

// AppendPing appends what a client answers with an empty command, if ConnectResult.Pong told it to.
func AppendPing(dst []byte, f Format) []byte {
	if f == JSON {
		return append(dst, "{}"...)
	}
	return append(dst, 0)
}

// AppendError appends the reply of a command that failed.
func AppendError(dst []byte, f Format, id uint32, e *Error) []byte {
	w := begin(dst, f, id)
	at := w.open(2, "error")
	w.uint(1, "code", uint64(e.Code))
	w.text(2, "message", e.Message)
	w.truth(3, "temporary", e.Temporary)
	w.close(at)
	return w.end()
}

// AppendEmpty appends the reply of a method whose result has nothing in it, as that of publish and of unsubscribe.
func AppendEmpty(dst []byte, f Format, id uint32, m Method) []byte {
	w := begin(dst, f, id)
	if n := replyNumbers[m]; n != 0 {
		w.close(w.open(n, m.String()))
	}
	return w.end()
}

// replyNumbers are the fields of a reply. Methods without one have no reply.
var replyNumbers = [Unknown + 1]int32{
	Connect: 5, Subscribe: 6, Unsubscribe: 7, Publish: 8, Presence: 9, PresenceStats: 10, History: 11, Ping: 12,
	RPC: 13, Refresh: 14, SubRefresh: 15,
}

// AppendConnect appends the reply of connect.
func AppendConnect(dst []byte, f Format, id uint32, c *ConnectResult) []byte {
	w := begin(dst, f, id)
	at := w.open(5, "connect")
	w.text(1, "client", c.Client)
	w.text(2, "version", c.Version)
	w.truth(3, "expires", c.Expires)
	w.uint(4, "ttl", uint64(c.TTL))
	w.raw(5, "data", c.Data)
	if len(c.Subs) > 0 {
		w.openMap("subs")
		for i := range c.Subs {
			outer, inner := w.openEntry(6, c.Subs[i].Channel)
			w.subscription(&c.Subs[i].SubscribeResult)
			w.close(inner)
			w.closeEntry(outer)
		}
		w.closeMap()
	}
	w.uint(7, "ping", uint64(c.Ping))
	w.truth(8, "pong", c.Pong)
	w.text(10, "node", c.Node)
	w.close(at)
	return w.end()
}

// AppendSubscribe appends the reply of subscribe.
func AppendSubscribe(dst []byte, f Format, id uint32, s *SubscribeResult) []byte {
	w := begin(dst, f, id)
	at := w.open(6, "subscribe")
	w.subscription(s)
	w.close(at)
	return w.end()
}

// AppendPresence appends the reply of presence: who is in a channel, by client. Clients go out in order, so that the
// same presence is the same bytes; sorting them allocates.
func AppendPresence(dst []byte, f Format, id uint32, presence map[string]*engine.ClientInfo) []byte {
	w := begin(dst, f, id)
	at := w.open(9, "presence")
	w.openMap("presence") // written when empty, too
	for _, client := range slices.Sorted(maps.Keys(presence)) {
		outer, inner := w.openEntry(1, client)
		w.client(presence[client])
		w.close(inner)
		w.closeEntry(outer)
	}
	w.closeMap()
	w.close(at)
	return w.end()
}

// AppendPresenceStats appends the reply of presence_stats.
func AppendPresenceStats(dst []byte, f Format, id uint32, s engine.PresenceStats) []byte {
	w := begin(dst, f, id)
	at := w.open(10, "presence_stats")
	w.uintAlways(1, "num_clients", uint64(s.Clients))
	w.uintAlways(2, "num_users", uint64(s.Users))
	w.close(at)
	return w.end()
}

// AppendHistory appends the reply of history.
func AppendHistory(dst []byte, f Format, id uint32, h *HistoryResult) []byte {
	w := begin(dst, f, id)
	at := w.open(11, "history")
	w.publications(1, h.Publications) // written when empty, too
	w.textAlways(2, "epoch", h.Epoch)
	w.uintAlways(3, "offset", h.Offset)
	w.close(at)
	return w.end()
}

// AppendRPC appends the reply of rpc. data may be nil.
func AppendRPC(dst []byte, f Format, id uint32, data []byte) []byte {
	w := begin(dst, f, id)
	at := w.open(13, "rpc")
	w.raw(1, "data", data)
	w.close(at)
	return w.end()
}

// AppendRefresh appends the reply of refresh. ttl is in seconds.
func AppendRefresh(dst []byte, f Format, id uint32, client, version string, expires bool, ttl uint32) []byte {
	w := begin(dst, f, id)
	at := w.open(14, "refresh")
	w.text(1, "client", client)
	w.text(2, "version", version)
	w.truth(3, "expires", expires)
	w.uint(4, "ttl", uint64(ttl))
	w.close(at)
	return w.end()
}

// AppendSubRefresh appends the reply of sub_refresh. ttl is in seconds.
func AppendSubRefresh(dst []byte, f Format, id uint32, expires bool, ttl uint32) []byte {
	w := begin(dst, f, id)
	at := w.open(15, "sub_refresh")
	w.truth(1, "expires", expires)
	w.uint(2, "ttl", uint64(ttl))
	w.close(at)
	return w.end()
}

// AppendPublication appends the push of a publication.
func AppendPublication(dst []byte, f Format, channel string, p *Publication) []byte {
	w, push := beginPush(dst, f, channel)
	at := w.open(4, "pub")
	w.publication(p)
	w.close(at)
	return w.endPush(push)
}

// AppendJoin appends the push that a client has come to a channel.
func AppendJoin(dst []byte, f Format, channel string, info *engine.ClientInfo) []byte {
	w, push := beginPush(dst, f, channel)
	at := w.open(5, "join")
	w.info(1, info)
	w.close(at)
	return w.endPush(push)
}

// AppendLeave appends the push that a client has left a channel.
func AppendLeave(dst []byte, f Format, channel string, info *engine.ClientInfo) []byte {
	w, push := beginPush(dst, f, channel)
	at := w.open(6, "leave")
	w.info(1, info)
	w.close(at)
	return w.endPush(push)
}

// AppendUnsubscribe appends the push that the server ended a subscription.
func AppendUnsubscribe(dst []byte, f Format, channel string, u UnsubscribeReason) []byte {
	w, push := beginPush(dst, f, channel)
	at := w.open(7, "unsubscribe")
	w.uint(2, "code", uint64(u.Code))
	w.text(3, "reason", u.Reason)
	w.close(at)
	return w.endPush(push)
}

// AppendMessage appends the push of data to one client, outside of any channel.
func AppendMessage(dst []byte, f Format, data []byte) []byte {
	w, push := beginPush(dst, f, "")
	at := w.open(8, "message")
	w.data(1, data)
	w.close(at)
	return w.endPush(push)
}

// AppendSubscribePush appends the push that the server made a subscription. Of s it has Recoverable, Epoch, Offset,
// Positioned and Data: the protocol has room for no more there.
func AppendSubscribePush(dst []byte, f Format, channel string, s *SubscribeResult) []byte {
	w, push := beginPush(dst, f, channel)
	at := w.open(9, "subscribe")
	w.truth(1, "recoverable", s.Recoverable)
	w.text(4, "epoch", s.Epoch)
	w.uint(5, "offset", s.Offset)
	w.truth(6, "positioned", s.Positioned)
	w.raw(7, "data", s.Data)
	w.close(at)
	return w.endPush(push)
}

// AppendDisconnectPush appends the push of a disconnect, for connections that have no close frame to put it in.
func AppendDisconnectPush(dst []byte, f Format, d *Disconnect) []byte {
	w, push := beginPush(dst, f, "")
	at := w.open(11, "disconnect")
	w.uint(1, "code", uint64(d.Code))
	w.text(2, "reason", d.Reason)
	w.truth(3, "reconnect", d.Reconnect())
	w.close(at)
	return w.endPush(push)
}

// AppendRefreshPush appends the push that the server changed when the connection expires. ttl is in seconds.
func AppendRefreshPush(dst []byte, f Format, expires bool, ttl uint32) []byte {
	w, push := beginPush(dst, f, "")
	at := w.open(12, "refresh")
	w.truth(1, "expires", expires)
	w.uint(2, "ttl", uint64(ttl))
	w.close(at)
	return w.endPush(push)
}

func (w *writer) subscription(s *SubscribeResult) {
	w.truth(1, "expires", s.Expires)
	w.uint(2, "ttl", uint64(s.TTL))
	w.truth(3, "recoverable", s.Recoverable)
	w.text(6, "epoch", s.Epoch)
	if len(s.Publications) > 0 {
		w.publications(7, s.Publications)
	}
	w.truth(8, "recovered", s.Recovered)
	w.uint(9, "offset", s.Offset)
	w.truth(10, "positioned", s.Positioned)
	w.raw(11, "data", s.Data)
	w.truth(12, "was_recovering", s.WasRecovering)
	w.truth(13, "delta", s.Delta)
}

func (w *writer) publications(number int32, pubs []Publication) {
	w.openList("publications")
	for i := range pubs {
		at := w.openElement(number)
		w.publication(&pubs[i])
		w.close(at)
	}
	w.closeList()
}

func (w *writer) publication(p *Publication) {
	// A delta is cut between any two bytes. One cut within a character has no place in a string: the data itself goes out
	// then, which a client takes at any time.
	data, delta := p.Data, p.IsDelta && (w.f == Protobuf || utf8.Valid(p.Delta))
	if delta {
		data = p.Delta
	}
	if w.f == JSON && (p.Stringed || p.IsDelta) {
		w.name("data")
		w.b = json.AppendString(w.b, data)
	} else {
		w.data(4, data)
	}
	if p.Info != nil {
		w.info(5, p.Info)
	}
	w.uint(6, "offset", p.Offset)
	w.tags(7, p.Tags)
	w.truth(8, "delta", delta)
	w.text(14, "epoch", p.Epoch)
}

func (w *writer) tags(number int32, tags map[string]string) {
	if len(tags) == 0 {
		return
	}
	var room [16]string
	keys := room[:0]
	for k := range tags {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	w.openMap("tags")
	for _, k := range keys {
		if w.f == JSON {
			w.nameText(k)
			w.b = json.AppendString(w.b, tags[k])
			continue
		}
		at := w.openElement(number)
		w.text(1, "", k)
		w.text(2, "", tags[k])
		w.close(at)
	}
	w.closeMap()
}

func (w *writer) info(number int32, i *engine.ClientInfo) {
	at := w.open(number, "info")
	w.client(i)
	w.close(at)
}

func (w *writer) client(i *engine.ClientInfo) {
	w.textAlways(1, "user", i.User)
	w.textAlways(2, "client", i.Client)
	w.raw(3, "conn_info", i.ConnInfo)
	w.raw(4, "chan_info", i.ChanInfo)
}

// writer writes a message in either format: each is described once. Zero values are left out, but for some that clients
// rely on in JSON.
type writer struct {
	f     Format
	b     []byte
	frame int // where the message began
}

func begin(dst []byte, f Format, id uint32) writer {
	w := writer{f: f, b: dst}
	if f == JSON {
		w.b = append(w.b, '{')
	} else {
		w.b = append(w.b, 0)
	}
	w.frame = len(w.b)
	w.uint(1, "id", uint64(id))
	return w
}

func (w *writer) end() []byte {
	w.close(w.frame)
	return w.b
}

func beginPush(dst []byte, f Format, channel string) (w writer, push int) {
	w = begin(dst, f, 0)
	push = w.open(4, "push")
	w.text(2, "channel", channel)
	return w, push
}

func (w *writer) endPush(push int) []byte {
	w.close(push)
	return w.end()
}

// open begins a message in the one at hand, and close ends it.
func (w *writer) open(number int32, name string) (at int) {
	if w.f == JSON {
		w.name(name)
	}
	return w.openElement(number)
}

// openElement is open for one message of a list, which has no name.
func (w *writer) openElement(number int32) (at int) {
	if w.f == JSON {
		w.comma()
		w.b = append(w.b, '{')
	} else {
		w.tag(number, protowire.BytesType)
		w.b = append(w.b, 0) // its length, if it is short
	}
	return len(w.b)
}

func (w *writer) close(at int) {
	if w.f == JSON {
		w.b = append(w.b, '}')
		return
	}
	n := len(w.b) - at
	if n < 0x80 {
		w.b[at-1] = byte(n)
		return
	}
	// The length takes more room than was left for it.
	more := protowire.SizeVarint(uint64(n)) - 1
	var room [8]byte
	w.b = append(w.b, room[:more]...)
	copy(w.b[at+more:], w.b[at:at+n])
	protowire.AppendVarint(w.b[:at-1], uint64(n))
}

// openList and closeList stand around the elements of a list.
func (w *writer) openList(name string) {
	if w.f == JSON {
		w.name(name)
		w.b = append(w.b, '[')
	}
}

func (w *writer) closeList() {
	if w.f == JSON {
		w.b = append(w.b, ']')
	}
}

// openMap and closeMap stand around the entries of a map; openEntry begins the message that is the value of one.
func (w *writer) openMap(name string) {
	if w.f == JSON {
		w.name(name)
		w.b = append(w.b, '{')
	}
}

func (w *writer) closeMap() {
	if w.f == JSON {
		w.b = append(w.b, '}')
	}
}

func (w *writer) openEntry(number int32, key string) (outer, inner int) {
	if w.f == JSON {
		w.nameText(key)
		w.b = append(w.b, '{')
		return 0, len(w.b)
	}
	outer = w.openElement(number)
	w.text(1, "", key)
	return outer, w.openElement(2)
}

// closeEntry ends an entry whose value was closed.
func (w *writer) closeEntry(outer int) {
	if w.f == Protobuf {
		w.close(outer)
	}
}

// comma separates what comes next from what is there.
func (w *writer) comma() {
	switch w.b[len(w.b)-1] {
	case '{', '[', ':':
	default:
		w.b = append(w.b, ',')
	}
}

// name begins a member whose name needs no escape.
func (w *writer) name(name string) {
	w.comma()
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

// nameText begins a member of any name.
func (w *writer) nameText(name string) {
	w.comma()
	w.b = json.AppendString(w.b, name)
	w.b = append(w.b, ':')
}

func (w *writer) tag(number int32, t protowire.Type) {
	w.b = protowire.AppendTag(w.b, protowire.Number(number), t)
}

func (w *writer) uint(number int32, name string, v uint64) {
	if v != 0 {
		w.uintAlways(number, name, v)
	}
}

func (w *writer) uintAlways(number int32, name string, v uint64) {
	if w.f == JSON {
		w.name(name)
		w.b = strconv.AppendUint(w.b, v, 10)
	} else if v != 0 {
		w.tag(number, protowire.VarintType)
		w.b = protowire.AppendVarint(w.b, v)
	}
}

func (w *writer) truth(number int32, name string, v bool) {
	if !v {
		return
	}
	if w.f == JSON {
		w.name(name)
		w.b = append(w.b, "true"...)
	} else {
		w.tag(number, protowire.VarintType)
		w.b = append(w.b, 1)
	}
}

func (w *writer) text(number int32, name, s string) {
	if s != "" {
		w.textAlways(number, name, s)
	}
}

func (w *writer) textAlways(number int32, name, s string) {
	if w.f == JSON {
		w.name(name)
		w.b = json.AppendString(w.b, s)
	} else if s != "" {
		w.tag(number, protowire.BytesType)
		w.b = protowire.AppendString(w.b, s)
	}
}

// raw appends bytes, or a JSON value.
func (w *writer) raw(number int32, name string, v []byte) {
	if len(v) == 0 {
		return
	}
	if w.f == JSON {
		w.name(name)
		w.b = json.AppendCompact(w.b, v)
	} else {
		w.tag(number, protowire.BytesType)
		w.b = protowire.AppendBytes(w.b, v)
	}
}

// data appends the data of a publication or of a message, which clients expect to be there in JSON.
func (w *writer) data(number int32, v []byte) {
	if w.f == JSON && len(v) == 0 {
		w.name("data")
		w.b = append(w.b, "null"...)
		return
	}
	w.raw(number, "data", v)
}
