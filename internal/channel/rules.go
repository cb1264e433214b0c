package channel

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// What an option is where it is zero.
const (
	DefaultRecoverMax     = 300
	DefaultSlowKeep       = 64
	DefaultHistoryMetaTTL = 30 * 24 * time.Hour
)

// Rules are the options of every namespace. They are frozen: any goroutine may use them.
type Rules struct {
	list   []Options         // 0 is for channels without a namespace, the others are as they were given
	byName map[string]uint16 // of namespaces → place in list
}

// Problem is what is wrong with one option of one namespace.
type Problem struct {
	Index     int    // of the namespace, as Rules.At counts: 0 is the one without a name
	Namespace string // its name
	Option    string // as a configuration file calls it: history-ttl
	Err       error
}

// Error names namespace and option.
func (p *Problem) Error() string {
	if p.Index == 0 {
		return fmt.Sprintf("channels: %s: %v", p.Option, p.Err)
	}
	return fmt.Sprintf("namespace %q: %s: %v", p.Namespace, p.Option, p.Err)
}

// Unwrap is what is wrong.
func (p *Problem) Unwrap() error { return p.Err }

// NewRules checks the options, fills in those that are zero and have a default, and freezes them: def holds for
// channels without a namespace, its Name is to be empty. The arguments are copied; options that were filled in already
// are taken as they are. The error joins a *Problem for everything that is wrong.
func NewRules(def Options, namespaces []Options) (*Rules, error) {
	// An index is 16 bits wide, and 0 is taken.
	if len(namespaces) >= math.MaxUint16 {
		return nil, fmt.Errorf("channel rules: %d namespaces are too many: want less than %d", len(namespaces), math.MaxUint16)
	}
	r := &Rules{list: make([]Options, 0, 1+len(namespaces)), byName: make(map[string]uint16, len(namespaces))}
	var errs []error
	add := func(o Options, option string, err error) {
		if err != nil {
			errs = append(errs, &Problem{Index: len(r.list), Namespace: o.Name, Option: option, Err: err})
		}
	}
	if def.Name != "" {
		add(def, "name", fmt.Errorf("it is %q: these are the options of channels without a namespace", def.Name))
	}
	def.check(func(option string, err error) { add(def, option, err) })
	def.fill()
	r.list = append(r.list, def)
	for _, o := range namespaces {
		add(o, "name", checkNamespace(o.Name))
		if first, twice := r.byName[o.Name]; twice {
			add(o, "name", fmt.Errorf("namespace %d of the list is called so already", first))
		} else {
			r.byName[o.Name] = uint16(len(r.list))
		}
		o.check(func(option string, err error) { add(o, option, err) })
		o.fill()
		r.list = append(r.list, o)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return r, nil
}

// Lookup finds what holds for a channel, by its namespace. index is the namespace's, for At and for tables beside the
// rules. Without ok there is no such namespace: error 102, unknown channel. Whether a channel may be called that is for
// CheckName. o is shared and is not to be changed.
func (r *Rules) Lookup(channel []byte) (o *Options, index uint16, ok bool) {
	if n := Namespace(channel); len(n) > 0 {
		if index, ok = r.byName[string(n)]; !ok {
			return nil, 0, false
		}
	}
	return &r.list[index], index, true
}

// At is what holds in the namespace with that index: 0 for channels without one, then in the order of NewRules. It
// panics with an index that Lookup never gave.
func (r *Rules) At(index uint16) *Options { return &r.list[index] }

// Len is how many indexes there are.
func (r *Rules) Len() int { return len(r.list) }

const namespaceMax = 64

func checkNamespace(name string) error {
	if name == "" {
		return errors.New("it is empty: want what stands before the colon, such as chat for chat:room1")
	}
	if len(name) > namespaceMax {
		return fmt.Errorf("it has %d bytes: want at most %d", len(name), namespaceMax)
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return fmt.Errorf("%q has a %q: want letters, digits, dashes, underscores and dots", name, rune(c))
		}
	}
	return nil
}

// check gives add everything that is wrong with o.
func (o *Options) check(add func(option string, err error)) {
	needs := func(option string, on bool, other string, otherOn bool) {
		if on && !otherOn {
			add(option, fmt.Errorf("it needs %s", other))
		}
	}
	negative := func(option string, is bool) {
		if is {
			add(option, errors.New("it is negative: want 0 or more"))
		}
	}
	negative("history-size", o.HistorySize < 0)
	negative("history-ttl", o.HistoryTTL < 0)
	negative("history-meta-ttl", o.HistoryMetaTTL < 0)
	negative("recover-max", o.RecoverMax < 0)
	negative("publish-burst", o.PublishBurst < 0)
	negative("slow-keep", o.SlowKeep < 0)

	needs("history-size", o.HistorySize > 0, "history-ttl", o.HistoryTTL != 0)
	needs("history-ttl", o.HistoryTTL > 0, "history-size", o.HistorySize != 0)
	meta := o.HistoryMetaTTL
	if meta == 0 {
		meta = DefaultHistoryMetaTTL
	}
	if meta > 0 && o.HistoryTTL > meta {
		// A stream that forgot its position would give offsets of publications that it still has again.
		add("history-ttl", fmt.Errorf("%v is more than history-meta-ttl, %v", o.HistoryTTL, meta))
	}
	const history = "history-size and history-ttl"
	keeps := o.HistorySize != 0 && o.HistoryTTL != 0
	needs("force-recovery", o.ForceRecovery, history, keeps)
	needs("allow-recovery", o.AllowRecovery, history, keeps)
	needs("force-positioning", o.ForcePositioning, history, keeps)
	needs("allow-positioning", o.AllowPositioning, history, keeps)

	needs("allow-subscribe-for-anonymous", o.SubscribeForAnonymous, "allow-subscribe-for-client", o.SubscribeForClient)
	forAnonymous := func(what string, anonymous, client, subscriber bool) {
		needs("allow-"+what+"-for-anonymous", anonymous, "allow-"+what+"-for-client or allow-"+what+"-for-subscriber", client || subscriber)
	}
	forAnonymous("publish", o.PublishForAnonymous, o.PublishForClient, o.PublishForSubscriber)
	forAnonymous("presence", o.PresenceForAnonymous, o.PresenceForClient, o.PresenceForSubscriber)
	forAnonymous("history", o.HistoryForAnonymous, o.HistoryForClient, o.HistoryForSubscriber)

	needs("force-push-join-leave", o.ForceJoinLeave, "join-leave", o.JoinLeave)
	needs("delta-publish", o.DeltaPublish, "allow-delta", o.AllowDelta)
	if !(o.PublishRate >= 0) || math.IsInf(o.PublishRate, 0) {
		add("publish-rate", fmt.Errorf("%v is no rate: want a number a second, 0 or more", o.PublishRate))
	}
	needs("publish-burst", o.PublishBurst > 0, "publish-rate", o.PublishRate != 0)
	if o.Slow > SlowConflate {
		add("slow", fmt.Errorf("there is no %v", o.Slow))
	}
}

// fill puts defaults where nothing was said.
func (o *Options) fill() {
	if o.HistoryMetaTTL == 0 {
		o.HistoryMetaTTL = DefaultHistoryMetaTTL
	}
	if o.RecoverMax == 0 {
		o.RecoverMax = DefaultRecoverMax
	}
	if o.SlowKeep == 0 {
		o.SlowKeep = DefaultSlowKeep
	}
	if o.PublishRate > 0 && o.PublishBurst == 0 {
		o.PublishBurst = int(min(max(1, math.Ceil(o.PublishRate)), math.MaxInt32))
	}
}
